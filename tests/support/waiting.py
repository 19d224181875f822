"""Waiting for something in tests: polls with a deadline."""

import time
from collections.abc import Callable


def until(reached: Callable[[], bool], *, seconds: float = 30.0, every: float = 0.02) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: it is not after that time.
    """
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{reached} must become true within {seconds} s")
        time.sleep(every)
