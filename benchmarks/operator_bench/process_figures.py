"""CPU time and memory of processes, from /proc."""

import dataclasses
import os
import pathlib

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Figures of one process since it started."""

    cpu_seconds: float
    rss_mib: float
    peak_rss_mib: float


def read(pid: int) -> Figures:
    """Return the figures of a running process."""
    folder = pathlib.Path("/proc") / str(pid)
    # proc(5): the second field, the name in parentheses, may hold anything; utime and stime are fields 14 and 15.
    fields = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    status = dict(line.split(":", maxsplit=1) for line in (folder / "status").read_text(encoding="utf-8").splitlines())
    return Figures(
        cpu_seconds=(int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND,
        rss_mib=int(status["VmRSS"].split()[0]) / 1024,
        peak_rss_mib=int(status["VmHWM"].split()[0]) / 1024,
    )
