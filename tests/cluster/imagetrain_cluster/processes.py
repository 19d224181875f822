"""Start processes that outlive their starter, and end exactly those: a process id alone may have passed to another."""

import collections.abc
import contextlib
import dataclasses
import os
import pathlib
import select
import signal

from imagetrain_cluster import errors

STOP_TIMEOUT_SECONDS = 15.0
"""From SIGTERM to SIGKILL. etcd and the control plane take 1 to 3 s."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process and when it started, in clock ticks since boot: together they name one process for ever."""

    pid: int
    started: int


def boot() -> str:
    """Return what names this boot of the machine."""
    return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def spawn(
    arguments: collections.abc.Sequence[str | pathlib.Path],
    *,
    log: pathlib.Path,
    environment: collections.abc.Mapping[str, str],
    inherit: collections.abc.Iterable[int] = (),
) -> Process:
    """Start a process in a session of its own, its output appended to `log`, the descriptors `inherit` kept open.

    No other descriptor goes with it: a lock that its starter's starter holds would be held for as long as it runs.
    """
    words = [str(word) for word in arguments]
    kept = set(inherit)
    for descriptor in kept:
        os.set_inheritable(descriptor, True)
    pid = os.posix_spawn(
        words[0],
        words,
        dict(environment),
        setsid=True,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
            *((os.POSIX_SPAWN_CLOSE, descriptor) for descriptor in _inheritable() - kept),
        ],
    )
    return of(pid)


def _inheritable() -> set[int]:
    """Return the descriptors that a program started now would be given, but for the standard ones."""
    found = set()
    for path in pathlib.Path("/proc/self/fd").iterdir():
        descriptor = int(path.name)
        with contextlib.suppress(OSError):  # that of this listing is closed again
            if descriptor > 2 and os.get_inheritable(descriptor):
                found.add(descriptor)
    return found


def of(pid: int) -> Process:
    """Return the process that has this id now.

    Raises:
        ClusterError: there is none.
    """
    started = _start_time(pid)
    if started is None:
        raise errors.ClusterError(f"process {pid} must be running, but it has ended.")
    return Process(pid=pid, started=started)


def is_running(process: Process) -> bool:
    """Return whether the process still runs; one that has ended and only waits for its parent does not."""
    _reap(process.pid)
    return _start_time(process.pid) == process.started


def end(
    process: Process, *, by: signal.Signals = signal.SIGTERM, timeout_seconds: float = STOP_TIMEOUT_SECONDS
) -> None:
    """End a process: `by`, then SIGKILL when it has not gone in time. Nothing happens when it has ended already."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        # The descriptor names one process for ever; what its id names now is compared after it was opened.
        if not is_running(process):
            return
        for number in (by, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], timeout_seconds)[0]:
                break
    finally:
        os.close(handle)
    _reap(process.pid)


def children(pid: int) -> list[int]:
    """Return the ids of a process's children."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
            found += (int(word) for word in path.read_text(encoding="ascii").split())
    return found


def in_network_namespaces(inodes: collections.abc.Container[int]) -> list[Process]:
    """Return the processes that live in one of these network namespaces."""
    found = []
    for folder in pathlib.Path("/proc").iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if (folder / "ns" / "net").stat().st_ino in inodes:
                started = _start_time(int(folder.name))
                if started is not None:
                    found.append(Process(pid=int(folder.name), started=started))
    return found


def _start_time(pid: int) -> int | None:
    """Return when a process started, or nothing when it has ended (a zombie has)."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # proc(5): the second field, the name in parentheses, may hold anything; state is field 3, starttime field 22.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def _reap(pid: int) -> None:
    """Collect an ended child of this process; a child of another process is left alone."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
