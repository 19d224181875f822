"""What the training loop asks of checkpoints: restore at the start, save when it is due, wait at the end."""

import dataclasses
import logging
import time
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from imagetrain_api import job
from imagetrain_trainer.training import (
    cadence,
    checkpoints,
    events,
    joint_values,
    local_copies,
    reporter,
    restoring,
    run_state,
    saving,
    state,
)

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where checkpoints go, and what this process knows of its start.

    Attributes:
        saved: the run's checkpoints in object storage.
        copies: this worker's own; None: it keeps none.
        start: rank, generation and the step to resume.
    """

    saved: checkpoints.CheckpointStore
    copies: local_copies.LocalCopies | None
    start: restoring.Start


class RunSaves:
    """Restores and saves one rank of a run; every rank calls the same methods at the same steps."""

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        workers: int,
        places: Places,
        variables: dict[str, keras.Variable],
        settings: job.CheckpointSettings,
        report: reporter.Reporter,
        event_log: events.EventLog | None,
    ) -> None:
        """Prepare.

        Args:
            strategy: the joined group.
            workers: its size.
            places: where checkpoints go.
            variables: the state, by name.
            settings: the job's.
            report: is told of saves.
            event_log: uploaded beside them; the chief's alone.
        """
        self._strategy, self._workers, self._places = strategy, workers, places
        self._variables, self._settings = variables, settings
        self._report, self._event_log = report, event_log
        self._saver: saving.Saver | None = None
        self._generation = 1
        self._seconds_before = 0.0
        self._started_at = self._saved_at = time.monotonic()
        self._saved_step: int | None = None
        self._copied_at = self._saved_at
        self._copy_seconds: float | None = None
        self._state_bytes = 0
        self._told_step: int | None = None
        self._stalls = 0
        self._stall_seconds = 0.0

    def restore(self) -> run_state.RunState:
        """Set the variables to the group's newest checkpoint, the same on every rank; return where the run stands.

        Raises:
            FencedError: another worker group has taken over the run.
            DataCorruptError: every checkpoint is damaged, or belongs to another model.
            StorageError: the storage refused.
        """
        start = self._places.start

        def exchange(values: Sequence[int]) -> list[list[int]]:
            with self._report.waiting("peers"):
                return joint_values.exchange(self._strategy, start.rank, self._workers, values)

        restored = restoring.Restorer(self._places.saved, self._places.copies, start, exchange).restore()
        self._generation = restored.generation
        self._begin_saving()
        if restored.checkpoint is None:
            return run_state.RunState(generation=restored.generation)
        state.write_variables(self._variables, dict(restored.checkpoint.arrays))
        found = run_state.from_json(restored.checkpoint.host)
        self._seconds_before = found.seconds
        if restored.is_stored:
            self._saved_step = found.step
        logger.info("resuming from the checkpoint of step %d", found.step)
        return dataclasses.replace(found, generation=restored.generation)

    def _begin_saving(self) -> None:
        rank = self._places.start.rank
        specs = state.describe_variables(self._variables)
        self._state_bytes = sum(spec.size_bytes for spec in specs.values())
        self._saver = saving.Saver(
            self._places.saved,
            self._places.copies,
            saving.Share(rank=rank, workers=self._workers, generation=self._generation),
            specs,
        )

    @property
    def saved_step(self) -> int | None:
        """Newest step that was saved or restored; its upload may still be under way."""
        return self._saved_step

    def longest_execution(self, step: int) -> int | None:
        """Return how many steps may run together before a save is due; None: any number."""
        return cadence.steps_to_save(self._settings, step)

    def is_due(self, step: int) -> bool:
        """Tell whether to save at `step`, as the chief's clock sees it; never while a save is in flight."""
        if self._saver is None or self._saver.is_busy:
            return False
        if self._settings.every_steps is not None:
            return step // self._settings.every_steps > (self._saved_step or 0) // self._settings.every_steps
        now = time.monotonic()
        interval = cadence.choose_interval(
            self._settings,
            stall_seconds=self._stall_seconds / self._stalls if self._stalls else None,
            failures=self._generation - 1,
            seconds=self._seconds_before + now - self._started_at,
        )
        return now - self._saved_at >= interval

    def is_copy_due(self) -> bool:
        """Tell whether the workers should keep the state on their own disks, as the chief's clock sees it."""
        if self._saver is None or not self._saver.can_copy:
            return False
        return time.monotonic() - self._copied_at >= cadence.copy_interval(self._copy_seconds, self._state_bytes)

    def copy(self, current: run_state.RunState) -> None:
        """Keep the state on this worker's disk alone, where it can; raises as `save`."""
        assert self._saver is not None, "restore comes first"
        started_at = time.monotonic()
        if self._saver.can_copy:
            self._saver.copy(current.step, state.HostArrays(self._variables), self._describe(current, started_at))
            self._copy_seconds = time.monotonic() - started_at
        if self._event_log is not None:
            self._event_log.flush()
        self._copied_at = time.monotonic()
        seconds = self._copied_at - started_at
        self._report.publish(checkpoint_seconds=self._report.progress().checkpoint_seconds + seconds)

    def _describe(self, current: run_state.RunState, now: float) -> dict[str, Any]:
        """Return the host side of a checkpoint."""
        seconds = self._seconds_before + now - self._started_at
        return dataclasses.replace(current, seconds=round(seconds, 3)).as_json()

    def save(self, current: run_state.RunState) -> None:
        """Begin to save the state; the caller has settled the variables. Returns when they may change again.

        Raises:
            FencedError: another worker group has taken over the run.
            StorageError, DiskFullError: an earlier save failed for good.
        """
        assert self._saver is not None, "restore comes first"
        started_at = time.monotonic()
        log = self._event_log
        files = log.read() if log is not None else ()
        self._saver.save(
            current.step,
            state.HostArrays(self._variables),
            self._describe(current, started_at),
            best_step=current.decided.best_step,
            alongside=(lambda: log.upload(files)) if log is not None else lambda: None,
        )
        self._saved_step = current.step
        self._saved_at = self._copied_at = time.monotonic()
        self._note_stall(self._saved_at - started_at)

    def _note_stall(self, seconds: float) -> None:
        self._stalls += 1
        self._stall_seconds += seconds
        before = self._report.progress()
        self._report.publish(
            checkpoint_count=before.checkpoint_count + 1, checkpoint_seconds=before.checkpoint_seconds + seconds
        )

    def look(self) -> None:
        """Tell of a checkpoint that has become complete; raises what ended the background work, as `save` does."""
        if self._saver is None:
            return
        self._saver.check()
        step = self._saver.complete_step
        if step is not None and step != self._told_step and self._places.start.rank == 0:
            self._told_step = step
            self._report.publish(checkpoint_step=step)

    def finish(self) -> None:
        """Return when everything saved is complete; raises as `save`."""
        assert self._saver is not None, "restore comes first"
        started_at = time.monotonic()
        with self._report.waiting("storage"):
            self._saver.wait()
        before = self._report.progress()
        self._report.publish(checkpoint_seconds=before.checkpoint_seconds + time.monotonic() - started_at)
        self.look()

    def close(self) -> None:
        """End the background thread."""
        if self._saver is not None:
            self._saver.close()
