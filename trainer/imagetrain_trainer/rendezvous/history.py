"""The group's recoveries: what each cost, how many there were, and how long the next restart waits. Pure."""

from collections.abc import Collection

from imagetrain_api import progress, schema
from imagetrain_trainer.rendezvous import failures, messages, settings

_AFTER_TRAINING = ("publishing", "done")
_STARTING = "starting"


class History:
    """Follows the steps of the group over its generations.

    Lost time runs from the moment that the newest step was first reported to that of the first step beyond it. Where
    the group fails again before it is there, the first record's time ends at the second's detection, so that no
    second is counted twice.
    """

    def __init__(self, limits: settings.Settings) -> None:
        self._limits = limits
        self._records: tuple[progress.Recovery, ...] = ()
        self.restarts = 0
        self._is_closed = False
        self.explained = 0  # the newest generation whose end is known here
        self._best_step = 0
        self._best_at: float | None = None  # None: no process of the group has run yet
        self._lost_before = 0.0  # what the open record has lost before `_best_at`
        self._reached = 0  # newest step of this generation
        self._first_step: int | None = None  # the first step that this generation reported
        self._step_at_failure = 0
        self._fruitless = 0

    @property
    def best_step(self) -> int:
        """Newest step that the group has reached in any generation."""
        return self._best_step

    def recoveries(self, now: float) -> tuple[progress.Recovery, ...]:
        """Return the newest records, oldest first; one that is still open shows the time lost until now."""
        if not self._is_open():
            return self._records
        return (*self._records[:-1], schema.replace(self._records[-1], lost_seconds=self._lost(now)))

    def known(self) -> tuple[progress.Recovery, ...]:
        """Return the records without the clock: they change only when something happened."""
        return self._records

    def recall(self, hello: messages.Hello, now: float) -> None:
        """Take over what a member knows of an earlier coordinator's records, if it is more than is known here."""
        newest = hello.recoveries[-1].generation if hello.recoveries else 0
        if (hello.restarts, newest) <= (self.restarts, self.explained):
            return
        self.restarts, self._records = hello.restarts, hello.recoveries
        self.explained = max(self.explained, newest)
        self._best_step = max((record.step for record in self._records), default=0)
        if self._is_open():
            self._best_at, self._lost_before = now, self._records[-1].lost_seconds

    def recall_step(self, step: int, now: float) -> None:
        """Note what a member had reached under an earlier coordinator."""
        if self._best_at is None:
            self._best_at = now
        self._best_step, self._reached = max(step, self._best_step), max(step, self._reached)

    def begin(self, resume_step: int | None, now: float) -> None:
        """Note the start of a generation."""
        self._reached, self._first_step = 0, None
        if self._best_at is None:
            self._best_at = now
        if self._is_open() and resume_step is not None:
            # The group had got as far as its checkpoint, even if nobody had reported that yet.
            self._change_last(resumed_step=resume_step, step=max(resume_step, self._records[-1].step or 0))
            self._best_step = max(resume_step, self._best_step)
            self._step_at_failure = max(resume_step, self._step_at_failure)

    def observe(self, report: messages.MemberReport, now: float, unix: float) -> None:
        """Note the step of a report of this generation."""
        self._reached = max(self._reached, report.step)
        is_beyond = report.step > self._best_step
        if report.state == "running" and report.phase != _STARTING and self._first_step is None:
            self._first_step = report.step
            self._note_resumed(report.step)
        if self._is_open() and (is_beyond or self._is_publishing(report)):
            self._change_last(lost_seconds=self._lost(now), resumed_at=unix)
        if is_beyond:
            self._best_step, self._best_at, self._lost_before = report.step, now, 0.0

    def end(self, generation: int, failure: failures.Failure, now: float, unix: float) -> None:
        """Note that a generation failed."""
        if self._is_open():
            self._change_last(lost_seconds=self._lost(now))
            self._best_at, self._lost_before = now, 0.0
        if self._best_at is None:
            self._best_at = now
        record = progress.Recovery(
            generation=generation,
            reason=failure.reason,
            rank=failure.rank,
            message=failure.message,
            step=self._reached or self._best_step,  # of one that failed in its start
            detected_at=unix,
            lost_seconds=self._lost(now),
        )
        self._records = (*self._records, record)[-messages.MAX_RECOVERIES :]
        self.restarts, self.explained = self.restarts + 1, generation
        self._fruitless = 0 if self._best_step > self._step_at_failure else self._fruitless + 1
        self._step_at_failure = self._best_step

    def close(self, now: float, unix: float | None) -> None:
        """Note that the group leaves: no time is lost any more. `unix`: it has done its work, so it was there again."""
        if self._is_open():
            self._change_last(lost_seconds=self._lost(now), resumed_at=unix)
        self._is_closed = True

    def has_stepped(self, skip_steps: Collection[int]) -> bool:
        """Tell whether this generation has finished a step; those that were left out do not count."""
        if self._first_step is None:
            return False
        left_out = sum(1 for step in skip_steps if self._first_step < step <= self._reached)
        return self._reached - self._first_step > left_out

    def backoff_seconds(self) -> float:
        """Return how long to wait before the next restart: nothing after progress, then 1, 2, 4, ... seconds."""
        if not self._fruitless:
            return 0.0
        return float(min(2 ** min(self._fruitless - 1, 30), self._limits.longest_backoff_seconds))

    def note_dump(self, generation: int, rank: int, uri: str | None, head: str = "") -> None:
        """Note the stacks of a failed generation: the guilty rank's, else those that are told first."""
        for index, record in enumerate(self._records):
            if record.generation != generation:
                continue
            is_guilty = record.rank == rank
            if uri and (is_guilty or record.dump_uri is None):
                self._change(index, dump_uri=uri)
            if head and (is_guilty or not record.dump_head):
                self._change(index, dump_head=head)

    def _is_publishing(self, report: messages.MemberReport) -> bool:
        return report.phase in _AFTER_TRAINING and report.step >= self._best_step and report.state != _STARTING

    def _note_resumed(self, step: int) -> None:
        if self._is_open() and self._records[-1].resumed_step is None and step:
            self._change_last(resumed_step=step)

    def _is_open(self) -> bool:
        return not self._is_closed and bool(self._records) and self._records[-1].resumed_at is None

    def _lost(self, now: float) -> float:
        return self._lost_before + max(0.0, now - (now if self._best_at is None else self._best_at))

    def _change_last(self, **changes: object) -> None:
        self._change(len(self._records) - 1, **changes)

    def _change(self, index: int, **changes: object) -> None:
        if all(getattr(self._records[index], name) == value for name, value in changes.items()):
            return
        changed = schema.replace(self._records[index], **changes)
        self._records = (*self._records[:index], changed, *self._records[index + 1 :])
