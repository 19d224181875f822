"""Which lost worker of a running group starts anew in its place, and when. Pure.

A supervisor that was killed takes nothing with it: the group's coordinator takes a new one of the same rank, and the
group goes on with its next generation. One that dies again and again does not get well by itself: then the whole group
starts again, unless it can go on without that worker.
"""

import dataclasses
from collections.abc import Callable

from imagetrain_client.executor import policy

# A worker is in its group within seconds of its start; one that was there for so long died of something else.
QUICK_SECONDS = 30.0
MOST_QUICK_ENDS = 3  # in a row, of workers that were started in place of a lost one


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """A worker that starts anew in the place of a lost one."""

    rank: int
    message: str
    delay_seconds: float


class Replacements:
    """Decides on each loss of one attempt."""

    def __init__(self, workers: int, needed: int, may_replace: Callable[[], bool]) -> None:
        """Prepare.

        Args:
            workers: size of the group; a lone worker is the whole group.
            needed: fewest workers that go on without the others, rank 0 among them.
            may_replace: tells whether `spec.recovery.maxRestarts` allows another one.
        """
        self._workers = workers
        self._can_spare = needed < workers
        self._may_replace = may_replace
        self._started_at: dict[int, float] = {}  # of workers that replaced another
        self._quick_ends: dict[int, int] = {}

    def note_start(self, rank: int, now: float) -> None:
        """Note that a replacement was started."""
        self._started_at[rank] = now

    def decide(self, end: policy.WorkerEnd) -> Replacement | None:
        """Return how a worker that ended is replaced; None: its end is that of the group."""
        if self._workers == 1 or not policy.is_lost(end) or not self._may_replace():
            return None
        started_at = self._started_at.get(end.rank)
        is_quick = started_at is not None and end.at_seconds - started_at < QUICK_SECONDS
        quick_ends = self._quick_ends.get(end.rank, 0) + 1 if is_quick else 0
        self._quick_ends[end.rank] = quick_ends
        is_spared = self._can_spare and end.rank != policy.CHIEF
        if quick_ends >= MOST_QUICK_ENDS and not is_spared:
            return None
        delay_seconds = policy.backoff_seconds(quick_ends) if quick_ends else 0.0
        return Replacement(rank=end.rank, message=policy.describe_end(end), delay_seconds=delay_seconds)
