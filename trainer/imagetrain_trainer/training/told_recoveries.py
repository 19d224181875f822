"""The run's recoveries in place: this worker's supervisor tells them, for the training process is new.

A supervisor that was replaced knows nothing of those before it, so each checkpoint keeps what was told until then.
"""

import http.client
import ipaddress
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from imagetrain_api import names, progress, schema, worker_config

logger = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"
_TIMEOUT_SECONDS = 3.0  # the supervisor answers from memory
_MAX_ANSWER_BYTES = 1 << 20
_MOST_KEPT = 50  # of the newest; each is at most 3 KB


class Recoveries:
    """What is known of them, over all supervisors. Not thread-safe."""

    def __init__(self, read: Callable[[], Iterable[progress.Recovery]]) -> None:
        """`read` asks this worker's supervisor."""
        self._read = read
        self._known: dict[tuple[float, int], progress.Recovery] = {}
        self._is_settled = False

    def resume(self, kept: Iterable[Mapping[str, Any]]) -> None:
        """Add what a checkpoint kept."""
        for each in kept:
            self._add(schema.decode(progress.Recovery, each))

    def refresh(self) -> None:
        """Ask, until the newest is over: another one would end this process."""
        if self._is_settled:
            return
        told = tuple(self._read())
        for each in told:
            self._add(each)
        self._is_settled = not told or told[-1].resumed_at is not None

    def _add(self, recovery: progress.Recovery) -> None:
        # Generations are counted by attempt; the stack's head is for the status, and long.
        self._known[recovery.detected_at, recovery.generation] = schema.replace(recovery, dump_head="")

    def as_json(self) -> list[dict[str, Any]]:
        """Return the newest, oldest first."""
        return [schema.encode(each) for _, each in sorted(self._known.items())[-_MOST_KEPT:]]


def close_last(kept: Sequence[Mapping[str, Any]], unix: float) -> list[Mapping[str, Any]]:
    """Return the recoveries of a run that has done all its steps: it has got over the last one too."""
    if kept and kept[-1].get("resumedAt") is None:
        return [*kept[:-1], {**kept[-1], "resumedAt": unix}]
    return list(kept)


def read_recoveries(endpoint: worker_config.WorkerEndpoint) -> tuple[progress.Recovery, ...]:
    """Return the newest recoveries, oldest first; none where the supervisor of this worker does not answer."""
    connection = http.client.HTTPConnection(_own_address(endpoint.host), endpoint.status_port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", names.PATH_PROGRESS)
        document = json.loads(connection.getresponse().read(_MAX_ANSWER_BYTES))
        return schema.decode(progress.Progress, document).recoveries
    except (OSError, http.client.HTTPException, ValueError) as error:
        logger.warning("the report may lack recoveries, for the supervisor does not tell them: %s", error)
        return ()
    finally:
        connection.close()


def _own_address(host: str) -> str:
    """Return where this worker itself reaches its supervisor, which listens on all addresses or on a loopback one."""
    try:
        return host if ipaddress.ip_address(host).is_loopback else _LOOPBACK
    except ValueError:
        return _LOOPBACK
