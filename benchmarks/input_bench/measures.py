"""Measures of one stretch of work, and the verdict on a figure."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator


@dataclasses.dataclass(slots=True)
class Stretch:
    """Time and bytes of one stretch of work; `size_bytes` is set by whoever does the work."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    size_bytes: int = 0

    @property
    def megabytes_per_second(self) -> float:
        """Of wall time."""
        return self.size_bytes / self.seconds / 1e6

    @property
    def megabytes_per_cpu_second(self) -> float:
        """Of this process's processor time, all threads."""
        return self.size_bytes / self.cpu_seconds / 1e6


@contextlib.contextmanager
def measured(name: str) -> Iterator[Stretch]:
    """Measure the block and print its speed."""
    stretch = Stretch()
    started, cpu_started = time.perf_counter(), time.process_time()
    yield stretch
    stretch.seconds = time.perf_counter() - started
    stretch.cpu_seconds = time.process_time() - cpu_started
    print(
        f"{name:44} {stretch.megabytes_per_second:8.0f} MB/s {stretch.megabytes_per_cpu_second:8.0f} MB per CPU-second",
        flush=True,
    )


class Verdict:
    """Collects which figures were reached."""

    def __init__(self) -> None:
        self.is_reached = True

    def at_least(self, name: str, value: float, least: float) -> None:
        """Print a figure beside the least that it must be."""
        self._print(name, value, f">= {least:g}", value >= least)

    def at_most(self, name: str, value: float, most: float) -> None:
        """Print a figure beside the most that it may be."""
        self._print(name, value, f"<= {most:g}", value <= most)

    def _print(self, name: str, value: float, bound: str, is_reached: bool) -> None:  # noqa: FBT001
        self.is_reached &= is_reached
        print(f"{name:64} {value:9.3f}  {bound:>10}  {'yes' if is_reached else 'MISSED'}", flush=True)
