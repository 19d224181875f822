"""From a trained model to the publisher: the chief gathers what publishing needs."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy import typing as npt

from imagetrain_api import worker_config
from imagetrain_trainer import errors
from imagetrain_trainer.data import pipeline, prefetch, reader
from imagetrain_trainer.publish import publish
from imagetrain_trainer.storage import store as storage
from imagetrain_trainer.training import calibration, loop, pinned_data, surroundings, told_recoveries
from imagetrain_trainer.worker import environment

_BATCH = 256


def publish_run(
    worker: environment.WorkerEnvironment,
    finished: loop.TrainingLoop,
    around: surroundings.Surroundings,
    output: storage.ObjectStore,
    data: pinned_data.PinnedData,
) -> publish.PublishedModel:
    """Publish the model of a finished loop.

    Raises:
        PreemptedError: this worker was asked to stop; the final checkpoint is saved and a resumed run publishes.
        GateRefusedError, StorageError, DiskFullError: see `publish.publish_model`.
    """
    best_step = finished.load_best()

    def tell(detail: str, _fraction: float) -> None:
        if around.is_stopping():
            raise errors.PreemptedError("Stopped while publishing; the final checkpoint is saved.")
        around.report.publish(detail=detail)

    with reader.DatasetReader(data.objects, "test") as test:
        data.check(test.dataset)
        dataset = around.train.dataset
        request = publish.PublishRequest(
            model=finished.model,
            config=worker.config,
            store=output,
            dataset=publish.DatasetFacts(
                uri=data.objects.uri,
                version=data.pin.version,
                digest=dataset.digest,
                class_names=dataset.class_names,
                samples={name: split.records for name, split in dataset.splits.items()},
            ),
            test_batches=lambda: read_batches(test, worker.config.job.spec.model.input_shape),
            calibration_images=_read_calibration(around.train, worker.config),
            training=_training_figures(finished, best_step),
            history=_history(finished, around),
            work_dir=worker.work_dir,
            on_progress=tell,
        )
        return publish.publish_model(request)


def read_batches(
    records: reader.DatasetReader, input_shape: tuple[int, ...], record_ids: npt.NDArray[np.int64] | None = None
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]]:
    """Yield images (batch, h, w, c) uint8 and labels (batch,) int32 of a split, or of some of its records, in order."""
    ids = np.arange(records.records) if record_ids is None else record_ids
    parts = (ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH))
    with prefetch.Prefetcher(records, parts) as prefetcher:
        for batch in pipeline.DecodePipeline(
            prefetcher, records.dataset.image, input_shape, most_images=min(_BATCH, len(ids))
        ):
            yield batch["images"].numpy(), batch["labels"].numpy()


def _read_calibration(train: reader.DatasetReader, config: worker_config.WorkerConfig) -> npt.NDArray[np.uint8]:
    spec = config.job.spec
    chosen = calibration.choose(train, spec.output.int8.calibration_samples, spec.training.seed)
    return np.concatenate([images for images, _ in read_batches(train, spec.model.input_shape, chosen)])


def _training_figures(finished: loop.TrainingLoop, best_step: int) -> dict[str, Any]:
    history = finished.state.history
    published = next(record for record in history if record["step"] == best_step)
    return {
        "epochs": len(history),
        "steps": finished.state.step,
        "skipped_steps": list(finished.state.skipped_steps),
        "group_sizes": [{"from_step": step + 1, "workers": workers} for step, workers in finished.state.group_sizes],
        "published_epoch": published["epoch"],
        "validation_accuracy": published["validation_accuracy"],
        "validation_loss": published["validation_loss"],
        "training_seconds": round(sum(record["seconds"] for record in history), 1),
        "images_per_second": _rate(finished),
        "generations": finished.state.generation,
    }


def _rate(finished: loop.TrainingLoop) -> float:
    """Return images/s of the steps that this process timed; of the run's epochs where it found all steps done."""
    if finished.timed_seconds:
        return round(finished.timed_images / finished.timed_seconds, 1)
    history = finished.state.history
    seconds = sum(record["seconds"] for record in history)
    images = sum(record["images_per_second"] * record["seconds"] for record in history)
    return round(images / seconds, 1) if seconds else 0.0


def _history(finished: loop.TrainingLoop, around: surroundings.Surroundings) -> dict[str, Any]:
    report, kept = around.report.progress(), around.report.timeline()
    return {
        "epochs": list(finished.state.history),
        "validation_confusion_matrix": [list(row) for row in finished.state.confusion],
        "seconds_by_phase": dict(report.seconds_by_phase),  # of this process alone
        "timeline": {key: value for key, value in kept.items() if key != "recoveries"},  # of the whole run
        "recoveries": told_recoveries.close_last(kept["recoveries"], kept["unix"]),
    }
