"""The real loop on tiny data, one worker: strategy, graph, input, validation, checkpoints and policies together."""

import dataclasses
import functools
import pathlib
import secrets
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from imagetrain_api import job, names, progress
from imagetrain_trainer import errors
from imagetrain_trainer.data import pack, reader
from imagetrain_trainer.models import registry
from imagetrain_trainer.storage import store as storage
from imagetrain_trainer.training import (
    checkpoints,
    events,
    local_copies,
    loop,
    reporter,
    restoring,
    run_saves,
    step_plan,
    surroundings,
)
from imagetrain_trainer.worker import progress_block

BATCH, EPOCHS = 24, 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> storage.ObjectStore:
    folder: pathlib.Path = tmp_path_factory.mktemp("loop")
    random = np.random.default_rng(0)
    labels = np.arange(200) % 4
    patterns = random.integers(0, 200, (4, 8, 8, 1))
    images = (patterns[labels] + random.integers(0, 56, (200, 8, 8, 1))).astype(np.uint8)
    np.savez(folder / "x.npz", x=images, y=labels)
    pack.pack(folder / "x.npz", str(folder / "set"))
    return storage.open_store(str(folder / "set"))


@dataclasses.dataclass
class Bench:
    """One run's folder; `start` makes a fresh loop over it, as a restarted worker does."""

    data: storage.ObjectStore
    folder: pathlib.Path

    def start(
        self,
        *,
        is_stopping: Callable[[], bool] = lambda: False,
        plan: step_plan.StepPlan = step_plan.StepPlan(),  # noqa: B008 - it is frozen
        **training: Any,
    ) -> loop.TrainingLoop:
        settings = {"epochs": EPOCHS, "globalBatchSize": BATCH, "seed": 1, "stepsPerExecution": 2, **training}
        spec = job.decode_job(
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "metadata": {"name": "loop"},
                "spec": {
                    "data": {"uri": "s3://set/x"},
                    "model": {"architecture": "small_cnn", "inputShape": [8, 8, 1], "options": {"width": 8}},
                    "training": settings,
                    "output": {"uri": "s3://out/x"},
                    "recovery": {"skipPoisonBatches": True},
                },
            }
        ).spec
        self.folder.mkdir(exist_ok=True)
        block_path = self.folder / "block"
        self.block = progress_block.ProgressBlock(block_path, create=True)
        self.store = storage.open_store(str(self.folder / "run"))
        self.saved = checkpoints.CheckpointStore(self.store, keep=2)
        around = surroundings.Surroundings(
            train=reader.DatasetReader(self.data, "train"),
            validation=reader.DatasetReader(self.data, "validation"),
            places=run_saves.Places(
                saved=self.saved,
                copies=local_copies.LocalCopies(self.folder),
                start=restoring.Start(rank=0, generation=1, incarnation=secrets.token_hex(4), resume_step=None),
            ),
            report=reporter.Reporter(block_path, 0),
            event_log=events.EventLog(self.folder / "events", self.store),
            is_stopping=is_stopping,
            run_store=self.store,
            plan=plan,
        )
        keras.utils.clear_session()
        keras.utils.set_random_seed(1)
        build = functools.partial(
            registry.build_model,
            "small_cnn",
            input_shape=(8, 8, 1),
            classes=4,
            options={"width": 8},
            synchronized_batch_norm=spec.training.batch_normalization == "synchronized",
        )
        group = surroundings.Group(strategy=tf.distribute.MultiWorkerMirroredStrategy(), rank=0, workers=1)
        return loop.TrainingLoop(group, spec, build, around)

    def final(self) -> checkpoints.Checkpoint:
        newest = self.saved.load_newest()
        assert newest is not None
        return newest


@pytest.fixture
def bench(data: storage.ObjectStore, tmp_path: pathlib.Path) -> Bench:
    return Bench(data, tmp_path / "run")


def stop_after(executions: int) -> Callable[[], bool]:
    asked = iter(range(executions))
    return lambda: next(asked, None) is None


def test_run_learns_reports_and_leaves_events_and_a_checkpoint(bench: Bench) -> None:
    trained = bench.start()
    trained.run()
    assert [record["epoch"] for record in trained.state.history] == [1, 2, 3]
    assert trained.state.history[-1]["loss"] < trained.state.history[0]["loss"]
    assert sum(map(sum, trained.state.confusion)) == 40  # each validation sample once
    report = bench.block.read()
    assert report.step == report.total_steps == 15
    assert report.images == 15 * BATCH
    assert report.checkpoint_step == 15
    assert report.validation_accuracy == trained.state.history[-1]["validation_accuracy"]
    assert sum(report.step_seconds_buckets) == 14  # without the first step, which compiles
    assert [info.key for info in bench.store.list("events")]
    assert isinstance(report, progress.Progress)


def test_run_stopped_twice_ends_with_the_bits_of_a_straight_one(bench: Bench, data: storage.ObjectStore) -> None:
    augmented = {"augmentation": {"flip": "horizontal", "shift": 0.2}, "schedule": {"name": "cosine"}}
    bench.start(**augmented).run()
    stopped = Bench(data, bench.folder.parent / "stopped")
    for executions in (1, 3):
        with pytest.raises(errors.PreemptedError, match="the checkpoint is saved"):
            stopped.start(is_stopping=stop_after(executions), **augmented).run()
    resumed = stopped.start(**augmented)
    resumed.run()
    straight, again = bench.final(), stopped.final()
    assert resumed.state.generation == 3
    assert again.step == straight.step
    for name, array in straight.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array, err_msg=name)
    losses = [record["loss"] for record in straight.host["history"]]
    assert [record["loss"] for record in again.host["history"]] == pytest.approx(losses)


def test_loss_that_is_not_finite_ends_the_run_and_names_the_step(bench: Bench) -> None:
    trained = bench.start(optimizer={"name": "sgd", "learningRate": 1})
    trained.model.trainable_variables[-1].assign([np.nan] * 4)
    with pytest.raises(errors.NonFiniteLossError, match=r"became nan at step 0 \(epoch 1, steps 0 to 0 ran together\)"):
        trained.run()


def test_update_that_overflows_the_weights_is_named_after_validation(bench: Bench) -> None:
    with pytest.raises(errors.NonFiniteLossError, match=r"validation loss became nan after step 5 \(epoch 1\)"):
        bench.start(optimizer={"name": "sgd", "learningRate": 100}, labelSmoothing=0.1).run()


def test_best_epoch_is_published_and_the_run_ends_early(bench: Bench) -> None:
    stopping = {"monitor": "val_accuracy", "patienceEpochs": 1, "minDelta": 0.9}  # nothing is ever good enough again
    trained = bench.start(epochs=6, earlyStopping=stopping)
    trained.run()
    assert len(trained.state.history) == 2
    last = [np.asarray(variable) for variable in trained.model.variables]
    assert trained.load_best() == 5
    best = bench.saved.load(5)
    kernel = next(name for name in best.arrays if name.startswith("model/0000"))
    np.testing.assert_array_equal(np.asarray(trained.model.variables[0]), best.arrays[kernel])
    assert (np.asarray(trained.model.variables[0]) != last[0]).any()


def test_checkpoint_of_another_model_is_refused(bench: Bench) -> None:
    with pytest.raises(errors.PreemptedError):
        bench.start(is_stopping=stop_after(0)).run()
    with pytest.raises(errors.DataCorruptError, match="belongs to another model"):
        bench.start(optimizer={"name": "sgd"}).run()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_local_statistics_and_mixed_precision_train(bench: Bench, precision: str) -> None:
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    try:
        trained = bench.start(epochs=1, batchNormalization="local", precision=precision)
        trained.run()
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(trained.state.history[0]["loss"])
    assert all(variable.dtype == "float32" for variable in trained.model.trainable_variables)


def test_a_step_that_is_left_out_changes_nothing_but_the_place_in_the_order(bench: Bench) -> None:
    per_epoch = bench.start()._steps_per_epoch
    left_out = frozenset({3, 4, per_epoch})  # the last one ends an epoch
    seen: list[tuple[int, int]] = []
    trained = bench.start(plan=step_plan.StepPlan(left_out), stepsPerExecution=4)
    run = trained._execution.run
    trained._execution.run = lambda iterator, steps, told: (
        seen.append((trained.state.step + 1, steps)) or run(iterator, steps, told)
    )
    trained.run()
    made = [first + index for first, steps in seen for index in range(steps)]
    assert made == [step for step in range(1, EPOCHS * per_epoch + 1) if step not in left_out]
    assert (trained.state.step, trained.state.skipped_steps) == (EPOCHS * per_epoch, (3, 4, per_epoch))
    assert int(trained._iterations.numpy()) == trained.state.step  # the learning rate follows the order
    assert len(trained.state.history) == EPOCHS
    assert bench.block.read().skipped_steps == (3, 4, per_epoch)


def test_steps_that_were_left_out_once_are_left_out_after_every_restart(bench: Bench) -> None:
    with pytest.raises(errors.PreemptedError):
        bench.start(plan=step_plan.StepPlan(frozenset({7})), is_stopping=stop_after(2)).run()
    assert bench.final().step < 7
    trained = bench.start()  # of another attempt, whose coordinator knows nothing of it
    trained.run()
    assert trained.state.skipped_steps == (7,)


def test_careful_steps_run_one_by_one_and_change_no_weight(bench: Bench, tmp_path: pathlib.Path, caplog) -> None:
    bench.start(stepsPerExecution=4).run()
    other = Bench(bench.data, tmp_path / "careful")
    caplog.set_level("INFO")
    other.start(stepsPerExecution=4, plan=step_plan.StepPlan(careful=(3, 5))).run()
    for key, array in bench.final().arrays.items():
        np.testing.assert_array_equal(array, other.final().arrays[key], err_msg=key)
    told = [record.message for record in caplog.records if "trains alone" in record.message]
    assert [message.split()[1] for message in told] == ["3", "4", "5"]
    assert len(told[0].split(": ")[1].split(", ")) == BATCH
