"""What the workers' progress adds up to: events for the display, and what a restart message needs to know."""

from collections.abc import Mapping

from imagetrain_api import progress as progress_module
from imagetrain_client.executor import events, policy


class ProgressTracker:
    """Turns polls of `/progress` into events; lives through all restarts of a run."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._last: progress_module.Progress | None = None
        self._epochs_told: int | None = None
        self.checkpoint_step: int | None = None
        self.highest_step = 0

    @property
    def phase(self) -> str:
        """The chief's phase, or `starting` before it answered."""
        return self._last.phase if self._last else "starting"

    def forget_attempt(self) -> None:
        """Start afresh with the processes of the next attempt."""
        self._last = None

    def observe(
        self, newest: Mapping[int, progress_module.Progress], restarts: int
    ) -> list[events.Progressed | events.EpochEnded]:
        """Return the events that the newest progress of each rank gives rise to."""
        chief = newest.get(policy.CHIEF)
        if chief is None or chief == self._last:
            return []
        told: list[events.Progressed | events.EpochEnded] = []
        if self._has_new_epoch(chief):
            told.append(self._epoch_ended(chief))
        ready = sum(progress.phase != "starting" for progress in newest.values())
        told.append(events.Progressed(progress=chief, workers_ready=ready, workers=self._workers, restarts=restarts))
        if chief.checkpoint_step is not None:
            self.checkpoint_step = max(chief.checkpoint_step, self.checkpoint_step or 0)
        self.highest_step = max(self.highest_step, chief.step)
        self._last = chief
        return told

    def _has_new_epoch(self, chief: progress_module.Progress) -> bool:
        if self._epochs_told is None:  # a resumed run begins where it begins
            self._epochs_told = 0 if chief.phase == "starting" or chief.epoch <= 1 else chief.epoch
        has_new = chief.epoch > self._epochs_told
        self._epochs_told = max(self._epochs_told, chief.epoch)
        return has_new

    def _epoch_ended(self, chief: progress_module.Progress) -> events.EpochEnded:
        before = self._last if self._last and self._last.loss is not None and self._last.epoch < chief.epoch else chief
        return events.EpochEnded(
            epoch=chief.epoch,
            total_epochs=chief.total_epochs,
            step=chief.step,
            loss=before.loss,
            accuracy=before.accuracy,
            validation_loss=chief.validation_loss,
            validation_accuracy=chief.validation_accuracy,
            images_per_second=chief.images_per_second or before.images_per_second,
        )
