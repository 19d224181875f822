"""Buries what nobody waits for: a process 1, or a subreaper, is given every orphan of its descendants."""

import contextlib
import os
import pathlib
import time
from collections.abc import Callable

_GRACE_SECONDS = 5.0  # whoever waits for a child does so within that time


class Reaper:
    """Waits for dead children that have waited long for someone else to do so."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[int, float] = {}

    def reap(self) -> list[int]:
        """Reap them and return their process ids; costs one system call where no child is dead."""
        now = self._clock()
        dead = _find_dead()
        self._seen = {pid: self._seen.get(pid, now) for pid in dead}
        reaped = [pid for pid, since in self._seen.items() if now - since >= _GRACE_SECONDS]
        for pid in reaped:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        return reaped


def _find_dead() -> list[int]:
    """Return the process ids of this process's dead children."""
    try:
        if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return []
    except ChildProcessError:
        return []
    return [int(stat.parent.name) for stat in pathlib.Path("/proc").glob("[0-9]*/stat") if _is_dead_child(stat)]


def _is_dead_child(stat: pathlib.Path) -> bool:
    try:
        state, parent = stat.read_text().rpartition(")")[2].split()[:2]
    except (OSError, ValueError):
        return False
    return state == "Z" and int(parent) == os.getpid()
