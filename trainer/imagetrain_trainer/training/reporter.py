"""Keeps the training process's progress and shares it with the supervisor after each change. No TensorFlow here."""

import bisect
import collections
import pathlib
import time
from collections.abc import Callable
from typing import Any

from imagetrain_api import progress
from imagetrain_trainer.worker import progress_block

RECENT_SECONDS = 10.0  # images/s is measured over this stretch of training


class Reporter:
    """The one writer of a progress block."""

    def __init__(self, path: pathlib.Path, rank: int, clock: Callable[[], float] = time.time) -> None:
        self._block = progress_block.ProgressBlock(path)
        self._clock = clock
        self._fields: dict[str, Any] = {"rank": rank}
        self._buckets = [0] * (len(progress.STEP_BUCKETS_SECONDS) + 1)
        self._seconds_by_phase: dict[str, float] = collections.defaultdict(float)
        self._phase = "starting"
        self._phase_since = clock()
        self._recent: collections.deque[tuple[float, float, int, int]] = collections.deque()
        self.publish()

    def enter(self, phase: str, detail: str = "") -> None:
        """Change the phase."""
        self._account()
        self._phase = phase
        self.publish(detail=detail)

    def publish(self, **fields: object) -> None:
        """Change fields of the progress and share it."""
        self._fields.update(fields)
        self._account()
        self._block.write(self.progress())

    def progress(self) -> progress.Progress:
        """Return the progress as it stands."""
        return progress.Progress(
            **self._fields,
            phase=self._phase,
            step_seconds_buckets=tuple(self._buckets),
            seconds_by_phase={phase: round(seconds, 3) for phase, seconds in self._seconds_by_phase.items()},
            updated_at=self._clock(),
        )

    def record_steps(self, steps: int, images: int, seconds: float, stall_seconds: float, **fields: object) -> None:
        """Count finished steps and share the progress.

        Args:
            steps: steps of one execution.
            images: their samples over the group.
            seconds: the execution's duration.
            stall_seconds: how long its steps waited for input.
            fields: other fields of the progress that changed.
        """
        self._buckets[bisect.bisect_left(progress.STEP_BUCKETS_SECONDS, seconds / steps)] += steps
        self._recent.append((self._clock(), seconds, images, steps))
        while len(self._recent) > 1 and self._recent[0][0] < self._clock() - RECENT_SECONDS:
            self._recent.popleft()
        spent = sum(entry[1] for entry in self._recent)
        rate = sum(entry[2] for entry in self._recent) / spent
        left = fields.get("total_steps", self._fields.get("total_steps", 0)) - self._fields.get("step", 0)
        self.publish(
            images=self._fields.get("images", 0) + images,
            images_per_second=round(rate, 2),
            eta_seconds=round(max(0, left - steps) * spent / sum(entry[3] for entry in self._recent), 1),
            step_seconds_sum=self._fields.get("step_seconds_sum", 0.0) + seconds,
            input_stall_seconds=self._fields.get("input_stall_seconds", 0.0) + stall_seconds,
            **fields,
        )

    def _account(self) -> None:
        now = self._clock()
        self._seconds_by_phase[self._phase] += max(0.0, now - self._phase_since)
        self._phase_since = now
