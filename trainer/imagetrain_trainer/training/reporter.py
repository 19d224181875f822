"""Keeps the training process's progress and shares it with the supervisor after each change. No TensorFlow here."""

import bisect
import collections
import contextlib
import pathlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from imagetrain_api import progress
from imagetrain_trainer.training import timeline, told_recoveries
from imagetrain_trainer.worker import progress_block

RECENT_SECONDS = 10.0  # images/s is measured over this stretch of training
BEAT_SECONDS = 0.5  # the watchdog's limit for a silent heart (worker/watchdog.py) is ten times as long


class Reporter:
    """The one writer of a progress block; any thread may use it.

    From the start a thread of its own beats: it shows that Python runs in this process, whatever the other threads do.
    """

    def __init__(
        self,
        path: pathlib.Path,
        rank: int,
        clock: Callable[[], float] = time.time,
        read_recoveries: Callable[[], tuple[progress.Recovery, ...]] = tuple,
    ) -> None:
        """Begin.

        Args:
            path: the block.
            rank: of the worker.
            clock: Unix time.
            read_recoveries: asks the supervisor; for the chief, which keeps them with the timeline.
        """
        self._recoveries = told_recoveries.Recoveries(read_recoveries)
        self._block = progress_block.ProgressBlock(path)
        self._clock = clock
        self._fields: dict[str, Any] = {"rank": rank}
        self._buckets = [0] * (len(progress.STEP_BUCKETS_SECONDS) + 1)
        self._seconds_by_phase: dict[str, float] = collections.defaultdict(float)
        self._phase = "starting"
        self._phase_since = clock()
        self._recent: collections.deque[tuple[float, float, int, int]] = collections.deque()
        self._timeline = timeline.Recorder(time.monotonic())
        self._lock = threading.RLock()
        self._block.mark_step(0)
        self._block.mark_wait("")
        self.publish()
        self._is_closed = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="imagetrain-heartbeat", daemon=True)
        self._heart.start()

    def close(self) -> None:
        """End the heartbeat; nothing may be reported afterwards."""
        self._is_closed.set()
        self._heart.join()
        self._block.close()

    def _beat(self) -> None:
        self._block.mark_beat(time.time())
        while not self._is_closed.wait(BEAT_SECONDS):
            self._block.mark_beat(time.time())

    def enter(self, phase: str, detail: str = "", waiting_for: str = "") -> None:
        """Change the phase, and say what it waits for, if it begins with a wait."""
        with self._lock:
            self._account()
            self._phase = phase
            self._block.mark_wait(waiting_for)
            self.publish(detail=detail)

    def enter_step(self, step: int, last: int | None = None) -> None:
        """Say which step is about to run, or the first and last of several; it takes a microsecond."""
        self._block.mark_step(step, last)

    @contextlib.contextmanager
    def waiting(self, wait: str) -> Iterator[None]:
        """Say that what is in the `with` block waits for input, peers or storage."""
        self._block.mark_wait(wait)
        try:
            yield
        finally:
            self._block.mark_wait("")

    def publish(self, **fields: object) -> None:
        """Change fields of the progress and share it."""
        with self._lock:
            self._fields.update(fields)
            self._account()
            if fields.get("images"):
                self._timeline.note_steps(0.0)
            self._block.write(self.progress())

    def _build(self) -> progress.Progress:
        return progress.Progress(
            **self._fields,
            phase=self._phase,
            step_seconds_buckets=tuple(self._buckets),
            seconds_by_phase={phase: round(seconds, 3) for phase, seconds in self._seconds_by_phase.items()},
            updated_at=self._clock(),
        )

    def progress(self) -> progress.Progress:
        """Return the progress as it stands, without the marks."""
        with self._lock:
            return self._build()

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

        with self._lock:
            self._timeline.note_steps(stall_seconds)

    def timeline(self, *, is_stopped: bool = False) -> dict[str, Any]:
        """Return what a checkpoint keeps of the run's time; `is_stopped`: the run ends here because it was asked to."""
        self._recoveries.refresh()
        with self._lock:
            self._account()
            kept = self._timeline.snapshot(unix=self._clock(), is_stopped=is_stopped)
        return {**kept, "recoveries": self._recoveries.as_json()}

    def resume_timeline(self, kept: Mapping[str, Any]) -> None:
        """Go on with the timeline that a checkpoint kept."""
        self._recoveries.resume(kept.get("recoveries", ()))
        with self._lock:
            self._account()
            self._timeline.resume(kept, unix=self._clock())

    def _account(self) -> None:
        self._timeline.account(self._phase, time.monotonic())
        now = self._clock()
        self._seconds_by_phase[self._phase] += max(0.0, now - self._phase_since)
        self._phase_since = now
