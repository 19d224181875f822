"""What the kernel says of a process and its threads: running or stopped, processor time used, where it sleeps."""

import dataclasses
import os
import pathlib

STOPPED = "T"
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat (proc(5)) behind the name, which is in brackets and may hold anything.
_STATE, _USER_TICKS, _SYSTEM_TICKS, _THREADS = 0, 11, 12, 17
_MAX_THREADS = 512


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ProcessState:
    """A process at one moment.

    Attributes:
        state: the kernel's letter: R runs, S sleeps, D sleeps and cannot be woken, T stopped, t traced, Z ended.
        cpu_seconds: processor time of all its threads so far.
        threads: their number.
    """

    state: str
    cpu_seconds: float
    threads: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ThreadState:
    """A thread at one moment.

    Attributes:
        id: the kernel's number of it; that of the main thread is the process's.
        name: as the program named it, at most 15 characters.
        state: as of `ProcessState`.
        waits_in: the kernel's function that it sleeps in; empty when that is none or secret.
    """

    id: int
    name: str
    state: str
    waits_in: str


def read_process(pid: int) -> ProcessState | None:
    """Return the state of a process, or None when there is none."""
    fields = _read_stat(pathlib.Path(f"/proc/{pid}/stat"))
    if fields is None:
        return None
    ticks = int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])
    return ProcessState(state=fields[_STATE], cpu_seconds=ticks / _TICKS_PER_SECOND, threads=int(fields[_THREADS]))


def read_threads(pid: int) -> tuple[ThreadState, ...]:
    """Return the threads of a process, the main thread first; none when there is no process."""
    try:
        ids = sorted(int(entry.name) for entry in pathlib.Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return ()
    threads = (_read_thread(pid, each) for each in sorted(ids, key=lambda each: each != pid)[:_MAX_THREADS])
    return tuple(thread for thread in threads if thread is not None)


def catches(pid: int, number: int) -> bool:
    """Tell whether a process has a handler for a signal, so that the signal does not end it."""
    text = _read(pathlib.Path(f"/proc/{pid}/status"))
    for line in text.splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def _read_thread(pid: int, thread: int) -> ThreadState | None:
    folder = pathlib.Path(f"/proc/{pid}/task/{thread}")
    fields = _read_stat(folder / "stat")
    if fields is None:
        return None
    waits_in = _read(folder / "wchan")
    return ThreadState(
        id=thread,
        name=_read(folder / "comm").strip(),
        state=fields[_STATE],
        waits_in="" if waits_in in ("", "0") else waits_in,
    )


def _read_stat(path: pathlib.Path) -> list[str] | None:
    text = _read(path)
    return text.rpartition(")")[2].split() or None


def _read(path: pathlib.Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # it ended meanwhile, or may not be looked at
        return ""
