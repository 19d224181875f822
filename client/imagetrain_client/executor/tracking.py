"""What the workers' progress adds up to: events for the display, and what a restart message needs to know."""

from collections.abc import Mapping, Sequence

from imagetrain_api import progress as progress_module
from imagetrain_api import recoveries
from imagetrain_client.executor import events, policy

Told = events.Progressed | events.EpochEnded | events.Recovered | events.Resized


class ProgressTracker:
    """Turns polls of `/progress` into events; lives through all restarts of a run."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._size = workers  # of the newest generation that trains
        self._last: progress_module.Progress | None = None
        self._workers_ready = 0
        self._epochs_told = 0
        self._epoch_figures: tuple[float | None, float | None] | None = None
        self.checkpoint_step: int | None = None
        self.highest_step = 0
        self.recoveries = 0  # that were told
        self._told: set[tuple[int, float]] = set()  # generation, and when its end was noticed

    @property
    def phase(self) -> str:
        """The chief's phase, or `starting` before it answered."""
        return self._last.phase if self._last else "starting"

    def forget_attempt(self) -> None:
        """Start afresh with the processes of the next attempt."""
        self._last = None
        self._epoch_figures = None
        self._told.clear()

    def observe(self, newest: Mapping[int, progress_module.Progress], restarts: int) -> list[Told]:
        """Return the events that the newest progress of each rank gives rise to."""
        chief = newest.get(policy.CHIEF)
        if chief is None:
            return []
        # A worker that the group goes on without tells of its last generation, or nothing new.
        present = [each for each in newest.values() if each.generation == chief.generation]
        ready = sum(each.phase != "starting" for each in present)
        if chief == self._last and ready == self._workers_ready:
            return []
        told: list[Told] = [*self._find_recoveries(chief.recoveries)]
        if (epoch := self._find_ended_epoch(chief)) is not None:
            told.append(epoch)
        told += self._find_new_size(chief)
        told.append(
            events.Progressed(
                progress=chief,
                workers_ready=ready,
                workers=chief.workers or self._workers,
                full_size=self._workers,
                restarts=restarts,
            )
        )
        if chief.checkpoint_step is not None:
            self.checkpoint_step = max(chief.checkpoint_step, self.checkpoint_step or 0)
        self.highest_step = max(self.highest_step, chief.step)
        self._last, self._workers_ready = chief, ready
        return told

    def conclude(self, outcome: progress_module.WorkerOutcome | None) -> list[events.Recovered]:
        """Return the recoveries that the chief tells of at its end and that no poll has seen."""
        return self._find_recoveries(outcome.recoveries) if outcome is not None else []

    def _find_recoveries(self, told: Sequence[progress_module.Recovery]) -> list[events.Recovered]:
        """Return the recoveries that are over and were not told in this attempt."""
        fresh = [each for each in recoveries.finished(told) if (each.generation, each.detected_at) not in self._told]
        self._told |= {(each.generation, each.detected_at) for each in fresh}
        self.recoveries += len(fresh)
        return [events.Recovered(recovery=each, message=recoveries.describe(each)) for each in fresh]

    def _find_new_size(self, chief: progress_module.Progress) -> list[events.Resized]:
        """Return that the group trains with another number of workers, once it does."""
        if chief.phase == "starting" or chief.workers in (0, self._size):
            return []
        before, self._size = self._size, chief.workers
        return [events.Resized(workers=chief.workers, workers_before=before, full_size=self._workers, step=chief.step)]

    def _find_ended_epoch(self, chief: progress_module.Progress) -> events.EpochEnded | None:
        if chief.images == 0:  # nothing is trained yet: here the process begins, perhaps in the middle of a run
            self._epochs_told = chief.epoch
        if chief.epoch <= self._epochs_told:
            return None
        if self._epoch_figures is None:
            self._epoch_figures = self._closing_figures(chief)
        if chief.phase == "evaluating":  # the validation figures are still those of the epoch before
            return None
        loss, accuracy = self._epoch_figures
        self._epochs_told, self._epoch_figures = chief.epoch, None
        return events.EpochEnded(
            epoch=chief.epoch,
            total_epochs=chief.total_epochs,
            step=chief.step,
            loss=loss,
            accuracy=accuracy,
            validation_loss=chief.validation_loss,
            validation_accuracy=chief.validation_accuracy,
            images_per_second=chief.images_per_second,
        )

    def _closing_figures(self, chief: progress_module.Progress) -> tuple[float | None, float | None]:
        """Return loss and accuracy of the epoch that ended, as of its last step or of the last poll in it."""
        is_at_boundary = chief.step * chief.total_epochs == chief.epoch * chief.total_steps
        source = chief if is_at_boundary or self._last is None or self._last.loss is None else self._last
        return source.loss, source.accuracy
