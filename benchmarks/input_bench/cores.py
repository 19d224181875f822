"""Which processor cores a benchmark and the servers that it started run on."""

import contextlib
import os
import pathlib
from collections.abc import Iterator


def can_part() -> bool:
    """Say whether there is a core for the servers beside one for the benchmark."""
    return len(os.sched_getaffinity(0)) > 1


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """Run this process on one half of its cores and its child processes on the other, until the block ends.

    Threads that start within the block stay on their half: start none in it that outlive it.
    """
    cores = sorted(os.sched_getaffinity(0))
    theirs, ours = set(cores[: len(cores) // 2]), set(cores[len(cores) // 2 :])
    children = list(_children())
    try:
        for child in children:
            _pin(child, theirs)
        _pin(os.getpid(), ours)
        yield
    finally:
        for process in (os.getpid(), *children):
            _pin(process, set(cores))


def _children() -> Iterator[int]:
    """Yield the ids of this process's children."""
    for status in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if int(status.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]) == os.getpid():
                yield int(status.parent.name)


def _pin(process: int, cores: set[int]) -> None:
    """Let every thread of a process run on some cores alone."""
    for thread in pathlib.Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
            os.sched_setaffinity(int(thread.name), cores)
