"""Entry point of the training process; the supervisor starts it and reads its progress, exit status and outcome."""

import errno
import functools
import logging
import os
import pathlib
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow reads it when it is imported
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import tensorflow as tf

from imagetrain_api import exit_codes, model_manifest, names, progress
from imagetrain_trainer import errors
from imagetrain_trainer.data import reader
from imagetrain_trainer.models import registry
from imagetrain_trainer.publish import publish
from imagetrain_trainer.storage import store as storage
from imagetrain_trainer.training import (
    checkpoints,
    diagnosis,
    events,
    group,
    handover,
    initial_values,
    local_copies,
    loop,
    pinned_data,
    reading,
    reporter,
    restoring,
    run_saves,
    step_plan,
    surroundings,
    told_recoveries,
)
from imagetrain_trainer.worker import environment, logs, outcomes

logger = logging.getLogger(__name__)


_KEPT: list[object] = []  # what must not be destroyed before the process ends: its end waits for peers that may be gone


class StopRequest:
    """Remembers that a signal asked this worker to stop."""

    def __init__(self) -> None:
        self.is_set = False
        self.listen()

    def listen(self) -> None:
        """Take the signals; once more after the group was joined, when TensorFlow takes SIGTERM for itself."""
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor passes a terminal's Ctrl-C on as SIGTERM

    def _note(self, _number: int, _frame: object) -> None:
        self.is_set = True

    def __call__(self) -> bool:
        """Tell whether to stop."""
        return self.is_set


def main() -> None:
    """Train, publish on the chief, write the outcome, and exit with its code."""
    stop = StopRequest()
    worker = environment.read_environment(os.environ)
    logs.configure(worker.log_format, worker.rank)
    if stack_file := os.environ.get(names.ENV_STACK_FILE):
        diagnosis.enable(pathlib.Path(stack_file))
    report = reporter.Reporter(
        pathlib.Path(os.environ[environment.ENV_PROGRESS_BLOCK]),
        worker.rank,
        read_recoveries=lambda: told_recoveries.read_recoveries(worker.endpoint) if worker.rank == 0 else (),
    )
    try:
        outcome = run(worker, report, stop)
    except Exception as error:  # noqa: BLE001 - any failure has an outcome
        outcome = explain(error)
        report.enter("failed", outcome.message[:500])
        # Here and not below: with the error its frames go, and with them the strategy, whose end waits for its peers.
        _leave(outcome)
    report.enter("done")
    _leave(outcome)


def _leave(outcome: progress.WorkerOutcome) -> NoReturn:
    """Write the outcome and end at once; TensorFlow's own shutdown waits for peers that may be gone."""
    outcomes.write_outcome(pathlib.Path(os.environ[environment.ENV_OUTCOME]), outcome)
    logging.shutdown()
    sys.stdout.flush()
    os._exit(outcome.exit_code)


def run(
    worker: environment.WorkerEnvironment, report: reporter.Reporter, is_stopping: StopRequest
) -> progress.WorkerOutcome:
    """Run one worker to its end.

    Raises:
        TrainerError: an expected failure.
    """
    config = worker.config
    spec = config.job.spec
    s3 = storage.S3Settings(endpoint_url=spec.s3.endpoint_url, region=spec.s3.region)
    output = storage.open_store(spec.output.uri, s3)
    if (published := publish.find_published(output, config.run_id)) is not None:
        return _build_outcome(published)
    if worker.rank == 0:
        output.child(names.run_prefix(config.run_id)).probe_writable()
    group.configure_tensorflow(worker)
    data = pinned_data.open_pinned(
        spec,
        output.child(names.run_prefix(config.run_id)),
        is_chief=worker.rank == 0,
        on_wait=lambda: report.enter(
            "starting", "waiting for the chief to choose the version of the data set", "peers"
        ),
    )
    options = reading.build_options(spec.data, worker.work_dir)
    with (
        reader.DatasetReader(data.objects, "train", options) as train,
        reader.DatasetReader(data.objects, "validation", options) as validation,
    ):
        data.check(train.dataset)
        data.check(validation.dataset)
        version = f", data set version {data.pin.version}" if data.pin.version else ""
        report.enter("starting", f"waiting for {len(worker.members)} worker(s){version}", "peers")
        strategy = group.build_strategy()  # before anything that makes TensorFlow's context
        is_stopping.listen()
        report.enter("starting", "building the model")
        around = _build_surroundings(worker, train, validation, output, report, is_stopping)
        trained = _build_loop(worker, strategy, around)
        _KEPT.extend((strategy, trained))
        trained.run()
        if worker.rank != 0:
            return outcomes.build_outcome(exit_codes.ExitCode.DONE, "Training is done; the chief publishes.")
        report.enter("publishing")
        return _build_outcome(handover.publish_run(worker, trained, around, output, data))


def _build_surroundings(
    worker: environment.WorkerEnvironment,
    train: reader.DatasetReader,
    validation: reader.DatasetReader,
    output: storage.ObjectStore,
    report: reporter.Reporter,
    is_stopping: Callable[[], bool],
) -> surroundings.Surroundings:
    config = worker.config
    run_store = output.child(names.run_prefix(config.run_id))
    event_folder = worker.work_dir / "events"
    return surroundings.Surroundings(
        train=train,
        validation=validation,
        places=run_saves.Places(
            saved=checkpoints.CheckpointStore(
                run_store, keep=config.job.spec.checkpoint.keep, job=config.job.metadata.name
            ),
            copies=local_copies.LocalCopies(worker.work_dir),
            start=restoring.Start(
                rank=worker.rank,
                generation=worker.generation,
                incarnation=worker.incarnation,
                resume_step=worker.resume_step,
            ),
        ),
        report=report,
        run_store=run_store,
        plan=step_plan.StepPlan(frozenset(worker.skip_steps), worker.careful_steps),
        event_log=events.EventLog(event_folder, run_store) if worker.rank == 0 else None,
        is_stopping=is_stopping,
    )


def _build_loop(
    worker: environment.WorkerEnvironment, strategy: tf.distribute.Strategy, around: surroundings.Surroundings
) -> loop.TrainingLoop:
    spec = worker.config.job.spec
    if spec.model.module:
        registry.load_module(spec.model.module)
    keras.utils.clear_session()  # layer names are part of a checkpoint
    keras.utils.set_random_seed(spec.training.seed)
    keras.config.set_dtype_policy("mixed_bfloat16" if spec.training.precision == "bfloat16" else "float32")
    build = functools.partial(
        registry.build_model,
        spec.model.architecture,
        input_shape=spec.model.input_shape,
        classes=len(around.train.dataset.class_names),
        options=spec.model.options,
        synchronized_batch_norm=spec.training.batch_normalization == "synchronized",
    )
    members = surroundings.Group(strategy=strategy, rank=worker.rank, workers=len(worker.members))
    with initial_values.not_sent(strategy):
        return loop.TrainingLoop(members, spec, build, around)


def _build_outcome(published: publish.PublishedModel) -> progress.WorkerOutcome:
    manifest = published.manifest
    skipped = manifest.training.get("skipped_steps", ())
    summary: dict[str, Any] = {
        **{key: manifest.training.get(key) for key in ("epochs", "steps", "images_per_second", "training_seconds")},
        "test_accuracy": manifest.test.get("accuracy"),
        "test_loss": manifest.test.get("loss"),
        **({"skipped_steps": len(skipped)} if skipped else {}),
        "artifacts": [_describe(variant, manifest.artifacts) for variant in manifest.variants],
    }
    return outcomes.build_outcome(
        exit_codes.ExitCode.DONE,
        f"The models are published: {published.manifest_uri}",
        manifestUri=published.manifest_uri,
        summary=summary,
    )


def _describe(variant: model_manifest.Variant, artifacts: Sequence[model_manifest.Artifact]) -> dict[str, Any]:
    """Return a variant in few bytes: the outcome document has room for 4,096 with everything else in it."""
    digest = next((artifact.sha256 for artifact in artifacts if artifact.path == variant.path), None)
    described: dict[str, Any] = {
        "format": variant.format,
        "sizeBytes": variant.size_bytes,
        "accuracy": round(variant.accuracy, 6),
        "latencyMilliseconds": round(variant.latency_median_ms, 4),
    }
    if variant.is_published:
        described["path"] = variant.path
    return {**described, "sha256": digest} if digest else described


def explain(error: Exception) -> progress.WorkerOutcome:
    """Return the outcome of a failure, and log what the user needs to see of it."""
    known = loop.explain(error)
    if isinstance(known, errors.TrainerError):
        return outcomes.build_outcome(known.exit_code, str(known))
    if _is_disk_full(error):
        return outcomes.build_outcome(exit_codes.ExitCode.DISK_FULL, f"No space is left on a local disk: {error}")
    logger.error("the training process failed", exc_info=error)
    return outcomes.build_outcome(exit_codes.ExitCode.INTERNAL, f"{type(error).__name__}: {error}")


def _is_disk_full(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return isinstance(error, tf.errors.OpError) and "No space left on device" in error.message


if __name__ == "__main__":
    main()
