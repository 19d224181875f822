"""How large processes that live long are over time, and whether they grow."""

import collections
import dataclasses
import pathlib
import statistics
from collections.abc import Iterable

EVERY_SECONDS = 2.0
_SETTLED_SECONDS = 60.0  # what a process needs to import and to recover once
_WATCHED_SECONDS = 120.0  # a process that lived shorter cannot be judged
_GROWTH_BYTES = 8 << 20
_GROWTH_COUNT = 8  # threads, and files and sockets: connections of the moment come and go


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """One process at one moment."""

    at: float
    resident_bytes: int
    threads: int
    descriptors: int


class Sizes:
    """The sizes of all processes of a kind.

    Args:
        what: they are.
        most_bytes: that one of them may take.
    """

    def __init__(self, what: str, most_bytes: int) -> None:
        self._what = what
        self._most_bytes = most_bytes
        self._seen: dict[int, list[Size]] = collections.defaultdict(list)

    def add(self, now: float, pids: Iterable[int]) -> None:
        """Note the sizes of those that still run."""
        for pid in pids:
            if resident := read_number(pid, "VmRSS"):
                threads = read_number(pid, "Threads")
                self._seen[pid].append(Size(now, resident * 1024, threads, _count_descriptors(pid)))

    def __str__(self) -> str:
        """Return one line a process."""
        lines = []
        for pid, sizes in self._seen.items():
            most = max(size.resident_bytes for size in sizes)
            lines.append(
                f"{self._what} {pid}: {sizes[-1].at - sizes[0].at:.0f} s, at most {most / 2**20:.0f} MiB, "
                f"threads {sizes[0].threads} to {sizes[-1].threads}, "
                f"descriptors {sizes[0].descriptors} to {sizes[-1].descriptors}"
            )
        return "\n".join(lines)

    def find_growth(self) -> list[str]:
        """Return one line for each process that is too large or grows."""
        found = []
        for pid, sizes in self._seen.items():
            most = max(size.resident_bytes for size in sizes)
            if most > self._most_bytes:
                found.append(f"{self._what} {pid} took {most / 2**20:.0f} MiB (goal {self._most_bytes >> 20})")
            settled = [size for size in sizes if size.at - sizes[0].at >= _SETTLED_SECONDS]
            if not settled or settled[-1].at - settled[0].at < _WATCHED_SECONDS:
                continue
            third = max(1, len(settled) // 3)
            early, late = settled[:third], settled[-third:]
            for name, allowed in (
                ("resident_bytes", _GROWTH_BYTES),
                ("threads", _GROWTH_COUNT),
                ("descriptors", _GROWTH_COUNT),
            ):
                before, after = (statistics.median(getattr(size, name) for size in part) for part in (early, late))
                if after - before > allowed:
                    found.append(f"{self._what} {pid} grows: {name} from {before:.0f} to {after:.0f}")
        return found


def _count_descriptors(pid: int) -> int:
    try:
        return len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return 0


def read_number(pid: int, name: str) -> int:
    """Return a number of proc(5)'s status; 0 where the process has ended."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)
