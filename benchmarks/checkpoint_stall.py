"""What a checkpoint costs training: how long an asynchronous save holds it up, beside a synchronous one.

    python benchmarks/checkpoint_stall.py [--models mobilenet_v2 resnet50] [--saves 8]

Each model trains in this process, step after step on random images, and saves to a real S3 server on this machine
(versitygw) with a local copy beside it, as a worker does. Per save it takes: the stall, which is how long the loop is
held up; and how much longer the steps last while the upload runs in the background than those before (the server has
its share of the same processors here, which it would not have elsewhere). A synchronous save of the same state is the
copy, the upload, the manifest and the garbage while training waits. Between saves the state goes to the worker's disk
alone: what that takes, and how often it is therefore done. `resnet50` is that of keras.applications.
"""

import argparse
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

import publisher_kill
from imagetrain_api import job
from imagetrain_trainer.models import registry
from imagetrain_trainer.storage import store
from imagetrain_trainer.training import cadence, checkpoints, local_copies, saving, state, state_layout

PIXELS, CLASSES = 96, 1000
BATCH = {"mobilenet_v2": 16, "resnet50": 8}
IDLE_STEPS = 12  # before each save, to know what a step takes
GOAL_OF_SYNCHRONOUS, GOAL_OF_RUN = 0.10, 0.01
CADENCE_SECONDS = job.CheckpointSettings().every_seconds


def main() -> int:
    """Run the benchmark; the exit status is 0 when both goals are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=sorted(BATCH), default=sorted(BATCH))
    parser.add_argument("--saves", type=int, default=8)
    arguments = parser.parse_args()
    is_good = True
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        with publisher_kill.run_server("versitygw", folder) as server:
            os.environ.update(server.environment())
            for name in arguments.models:
                server.create_bucket(f"stall-{name.replace('_', '-')}")
                is_good &= Trial(name, folder / name).run(arguments.saves)
    return 0 if is_good else 1


def build_model(name: str) -> keras.Model:
    """Return a model that gives logits."""
    shape = (PIXELS, PIXELS, 3)
    if name == "resnet50":
        return keras.applications.ResNet50(weights=None, input_shape=shape, classes=CLASSES, classifier_activation=None)
    return registry.build_model(name, input_shape=shape, classes=CLASSES, options={}, synchronized_batch_norm=False)


class Trial:
    """One model in training, and its checkpoints."""

    def __init__(self, name: str, folder: pathlib.Path) -> None:
        self._name = name
        self._model = build_model(name)
        optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
        optimizer.build(self._model.trainable_variables)
        self._variables = state.named_variables(self._model, optimizer)
        self._specs = state.describe_variables(self._variables)
        self._step = self._compile(optimizer)
        bucket = f"s3://stall-{name.replace('_', '-')}/"
        self._saved = checkpoints.CheckpointStore(store.open_store(bucket + "asynchronous"), keep=3)
        self._saved.fence.take(1, "benchmark")
        self._saved.fence.branch(0)
        self._synchronous = checkpoints.CheckpointStore(store.open_store(bucket + "synchronous"), keep=3)
        self._saver = saving.Saver(
            self._saved,
            local_copies.LocalCopies(folder),
            saving.Share(rank=0, workers=1, generation=1),
            self._specs,
        )

    def _compile(self, optimizer: keras.optimizers.Optimizer) -> Callable[[], float]:
        random = np.random.default_rng(0)
        images = tf.constant(random.random((BATCH[self._name], PIXELS, PIXELS, 3), np.float32))
        labels = tf.constant(random.integers(0, CLASSES, BATCH[self._name]))
        variables = self._model.trainable_variables

        def step() -> tf.Tensor:
            with tf.GradientTape() as tape:
                logits = self._model(images, training=True)
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
            optimizer.apply(tape.gradient(loss, variables), variables)
            return loss

        compiled = tf.function(step)

        def timed() -> float:
            began = time.monotonic()
            compiled().numpy()
            return time.monotonic() - began

        timed()
        return timed

    def run(self, saves: int) -> bool:
        """Train and save; print what it cost, and return whether the goals are met."""
        stalls, slowed, flights, steps = [], [], [], []
        for number in range(1, saves + 1):
            idle = [self._step() for _ in range(IDLE_STEPS)]
            usual = statistics.median(idle)
            steps.append(usual)
            began = time.monotonic()
            self._saver.save(number, state.HostArrays(self._variables), {})
            stalls.append(time.monotonic() - began)
            busy = []
            while self._saver.is_busy:
                busy.append(self._step() - usual)
            flights.append(time.monotonic() - began)
            slowed.append(sum(busy))
        self._saver.wait()
        self._copy_seconds = statistics.median([self._copy(number) for number in range(1, saves + 1)][1:])
        self._saver.close()
        return self._tell(stalls, slowed, flights, steps, [self._save_synchronously(n) for n in range(1, saves + 1)])

    def _copy(self, number: int) -> float:
        began = time.monotonic()
        self._saver.copy(number, state.HostArrays(self._variables), {})
        return time.monotonic() - began

    def _save_synchronously(self, number: int) -> float:
        began = time.monotonic()
        arrays = state.HostArrays(self._variables)
        self._synchronous.save(checkpoints.Checkpoint(step=number, arrays=arrays, host={}))
        return time.monotonic() - began

    def _tell(
        self,
        stalls: list[float],
        slowed: list[float],
        flights: list[float],
        steps: list[float],
        synchronous: list[float],
    ) -> bool:
        size = state_layout.StateLayout(self._specs, 1).size_bytes
        # The first save makes the buffer; a run does that once.
        stall, waited = statistics.median(stalls[1:]), statistics.median(synchronous[1:])
        lost = max(0.0, statistics.median(slowed[1:]))
        share, of_run = stall / waited, stall / CADENCE_SECONDS
        print(
            f"{self._name}: {size / 1e6:.0f} MB, {len(self._specs)} variables, a step {statistics.median(steps):.3f} s"
        )
        print(f"  synchronous save         {1000 * waited:8.1f} ms")
        print(f"  asynchronous save stalls {1000 * stall:8.1f} ms, {share:.1%} (goal {GOAL_OF_SYNCHRONOUS:.0%})")
        print(f"    the first              {1000 * stalls[0]:8.1f} ms")
        print(f"    in the background      {1000 * statistics.median(flights[1:]):8.1f} ms")
        interval = cadence.copy_interval(self._copy_seconds, size)
        print(f"  a copy on the worker's disk alone {1000 * self._copy_seconds:.1f} ms, so one each {interval:.1f} s")
        print(f"  stall at a save every {CADENCE_SECONDS} s  {of_run:.2%} of the run (goal {GOAL_OF_RUN:.0%})")
        print(
            f"  with the steps slowed by the upload and the server beside them  {(stall + lost) / CADENCE_SECONDS:.2%}"
        )
        return share <= GOAL_OF_SYNCHRONOUS and of_run <= GOAL_OF_RUN


if __name__ == "__main__":
    sys.exit(main())
