"""The product's training loop against a bare one: a tf.function over batches that lie in memory.

    python benchmarks/loop_overhead.py [--rounds 7] [--server]

Both train the same architecture in one process, in turn, round by round. The product has all that a job has: reads
from a packed data set (with --server, from a real S3 server), CRC checks, decoding, MultiWorkerMirroredStrategy,
synchronized BatchNorm, figures, the finite-loss check, the all-reduce of decisions, the heartbeat and the marks that
the watchdog reads. Prints the ratio of images/s.
"""

import argparse
import contextlib
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "support"))

import keras
import numpy as np
import tensorflow as tf

import groups
import s3_servers
from imagetrain_api import job
from imagetrain_trainer.data import reader
from imagetrain_trainer.models import registry
from imagetrain_trainer.storage import store as storage
from imagetrain_trainer.training import execution, group, inputs, optimizers, reading, reporter, schedule
from imagetrain_trainer.worker import progress_block

CASES = (("small_cnn", 28, 1, 256, 10), ("mobilenet_v2", 96, 3, 64, 4))  # the last: steps of one round
EPOCHS = 1000


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--server", action="store_true", help="read from moto, a real S3 API on this machine")
    arguments = parser.parse_args()
    strategy = group.build_strategy()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        if arguments.server:
            server = stack.enter_context(s3_servers.moto_server())
            os.environ |= server.environment()
            server.create_bucket("bench")
        for architecture, side, channels, batch, steps in CASES:
            folder = pathlib.Path(name) / architecture
            data = groups.pack_random(folder, records=max(1280, 5 * batch), height=side, width=side, channels=channels)
            store = storage.open_store(str(data))
            if arguments.server:
                store = upload(data, f"s3://bench/{architecture}/")
            spec = groups.build_job(
                data,
                folder / "out",
                model={"architecture": architecture, "inputShape": [side, side, channels]},
                training={"epochs": EPOCHS, "globalBatchSize": batch, "stepsPerExecution": steps},
            ).spec
            compare(strategy, spec, store, steps, arguments.rounds)


def compare(
    strategy: tf.distribute.Strategy, spec: job.JobSpec, store: storage.ObjectStore, steps: int, rounds: int
) -> None:
    """Print the ratio of one architecture."""
    bare = build_bare(spec)
    rates: dict[Callable[[int], int], float] = {}
    ratios = []
    with contextlib.ExitStack() as stack:
        train = stack.enter_context(reader.DatasetReader(store, "train"))
        product = build_product(strategy, spec, train, stack)
        for _ in range(2):
            product(steps), bare(steps)  # compile, warm up
        for number in range(rounds):
            first, second = (bare, product) if number % 2 else (product, bare)
            rates.update((run, measure(run, steps)) for run in (first, second))
            ratios.append(rates[product] / rates[bare])
        rate, bare_rate = rates[product], rates[bare]
    print(
        f"{spec.model.architecture} at {spec.model.input_shape[0]} px: {rate:.0f} images/s, bare "
        f"{bare_rate:.0f}; ratio median {statistics.median(ratios):.3f} of {rounds} rounds "
        f"({min(ratios):.3f} to {max(ratios):.3f}; goal 0.98)",
        flush=True,
    )


def measure(run: Callable[[int], int], steps: int) -> float:
    """Return images/s of some steps."""
    started_at = time.perf_counter()
    return run(steps) / (time.perf_counter() - started_at)


def build_product(
    strategy: tf.distribute.Strategy, spec: job.JobSpec, train: reader.DatasetReader, stack: contextlib.ExitStack
) -> Callable[[int], int]:
    """Return the product's loop: it trains some steps and returns their images."""
    with strategy.scope():
        model = registry.build_model(
            spec.model.architecture,
            input_shape=spec.model.input_shape,
            classes=10,
            options=spec.model.options,
            synchronized_batch_norm=True,
        )
        rate = schedule.LearningRate(
            spec.training.optimizer, spec.training.schedule, steps_per_epoch=10, total_steps=10000
        )
        optimizer = optimizers.build_optimizer(spec.training.optimizer, rate)
    training = execution.TrainingExecution(strategy, model, optimizer, spec.training, classes=10, local_replicas=1)
    steps_per_epoch = reading.build_sampler(train, spec).steps_per_epoch
    report = build_reporter(stack)
    batches = stack.enter_context(
        inputs.TrainingInput(
            train,
            spec,
            first_step=0,
            total_steps=steps_per_epoch * EPOCHS,
            replicas=range(1),
            world_size=1,
            waiting=lambda: report.waiting("input"),
        )
    )
    iterator = inputs.distribute(strategy, batches.dataset)

    def run(steps: int) -> int:
        report.enter_step(1)
        result = training.run(iterator, steps, execution.Signals())
        report.publish(images=result.images)
        return result.images

    return run


def build_reporter(stack: contextlib.ExitStack) -> reporter.Reporter:
    """Return a reporter whose heart beats until the stack ends."""
    path = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory())) / "progress.block"
    progress_block.ProgressBlock(path, create=True).close()
    report = reporter.Reporter(path, rank=0)
    stack.callback(report.close)
    return report


def build_bare(spec: job.JobSpec) -> Callable[[int], int]:
    """Return a bare loop over one batch in memory."""
    shape, size = spec.model.input_shape, spec.training.global_batch_size
    model = registry.build_model(spec.model.architecture, input_shape=shape, classes=10, options=spec.model.options)
    optimizer = keras.optimizers.Adam(spec.training.optimizer.learning_rate)
    optimizer.build(model.trainable_variables)
    random = np.random.default_rng(0)
    images = tf.constant(random.integers(0, 256, (size, *shape)).astype(np.uint8))
    labels = tf.constant(np.arange(size, dtype=np.int32) % 10)

    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    compiled = tf.function(step)

    def run(steps: int) -> int:
        losses = [compiled(images, labels) for _ in range(steps)]
        losses[-1].numpy()
        return steps * size

    return run


def upload(folder: pathlib.Path, uri: str) -> storage.ObjectStore:
    """Copy a packed data set to S3."""
    store = storage.open_store(uri)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            store.upload_file(str(path.relative_to(folder)), path)
    return store


if __name__ == "__main__":
    main()
