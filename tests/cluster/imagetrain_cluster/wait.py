"""Polling with a deadline."""

import collections.abc
import time
from typing import TypeVar

from imagetrain_cluster import errors

T = TypeVar("T")

POLL_SECONDS = 0.1


def until(attempt: collections.abc.Callable[[], T | None], *, timeout_seconds: float, what: str) -> T:
    """Call `attempt` until it returns something true, and return that.

    Raises:
        ClusterError: it did not within `timeout_seconds`; the message names `what`.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        result = attempt()
        if result:
            return result
        if time.monotonic() > deadline:
            raise errors.ClusterError(f"{what} did not happen within {timeout_seconds:g} s.")
        time.sleep(POLL_SECONDS)
