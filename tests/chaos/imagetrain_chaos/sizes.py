"""How large a run's supervisors and fork servers are over time, and whether they grow."""

import collections
import dataclasses
import statistics
from collections.abc import Iterable

from imagetrain_chaos import run_processes

EVERY_SECONDS = 2.0
_SETTLED_SECONDS = 60.0  # what a process needs to import and to recover once
_WATCHED_SECONDS = 120.0  # a process that lived shorter cannot be judged
_MOST_BYTES = 60 << 20  # the goal for a supervisor
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
    """The sizes of all supervisors of a run, by process."""

    def __init__(self) -> None:
        self._seen: dict[int, list[Size]] = collections.defaultdict(list)

    def add(self, now: float, processes: Iterable[run_processes.RunProcess]) -> None:
        """Note the sizes of those among the processes that are supervisors."""
        for process in processes:
            if process.is_supervisor and (resident := process.resident_bytes()):
                self._seen[process.pid].append(Size(now, resident, process.threads(), process.descriptors()))

    def __str__(self) -> str:
        """Return one line a process."""
        lines = []
        for pid, sizes in self._seen.items():
            most = max(size.resident_bytes for size in sizes)
            lines.append(
                f"supervisor {pid}: {sizes[-1].at - sizes[0].at:.0f} s, at most {most / 2**20:.0f} MiB, "
                f"threads {sizes[0].threads} to {sizes[-1].threads}, "
                f"descriptors {sizes[0].descriptors} to {sizes[-1].descriptors}"
            )
        return "\n".join(lines)

    def find_growth(self) -> list[str]:
        """Return one line for each process that is too large or grows."""
        found = []
        for pid, sizes in self._seen.items():
            most = max(size.resident_bytes for size in sizes)
            if most > _MOST_BYTES:
                found.append(f"supervisor {pid} took {most / 2**20:.0f} MiB (goal {_MOST_BYTES >> 20})")
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
                    found.append(f"supervisor {pid} grows: {name} from {before:.0f} to {after:.0f}")
        return found
