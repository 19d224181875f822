"""Batches of one worker: which records of which step, decoded, changed, and tied to the step's global size."""

import contextlib
from collections.abc import Callable, Container, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from numpy import typing as npt

from imagetrain_api import job
from imagetrain_trainer import errors
from imagetrain_trainer.data import pipeline, prefetch, reader, sampler
from imagetrain_trainer.training import batch_changes, reading

# One is being copied while the other is trained on; further ones would wait on the device instead of on the host.
_BATCHES_ON_DEVICE = 2


class TrainingInput(contextlib.AbstractContextManager["TrainingInput"]):
    """Training batches from a given step to the run's end, for the replicas of one worker.

    Attributes:
        dataset: one element a step and local replica, in order: images (batch, h, w, c) uint8, labels (batch,) int32,
            record_ids (batch,) int64, global_size () float32 (samples of the step over all replicas).
    """

    def __init__(
        self,
        records: reader.DatasetReader,
        spec: job.JobSpec,
        *,
        first_step: int,
        total_steps: int,
        replicas: range,
        world_size: int,
        left_out: Container[int] = (),
        waiting: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        """Start reading ahead.

        Args:
            records: the training split.
            spec: the job.
            first_step: global step of the first batch.
            total_steps: global steps of the run.
            replicas: ranks of this worker's replicas among all replicas.
            world_size: number of all replicas.
            left_out: global steps, from 0, of which there is no batch.
            waiting: entered while the next batch is not read yet.
        """
        self._spec = spec
        self._sampler = reading.build_sampler(records, spec)
        self._remaining = range(first_step, total_steps)
        self._left_out = left_out
        self._replicas = replicas
        self._world_size = world_size
        ids = (self._record_ids(*turn) for turn in self._turns())
        self._prefetcher = prefetch.Prefetcher(records, ids, ahead_bytes=spec.data.read_ahead_bytes)
        self._changes = batch_changes.BatchChanges(spec, self._sampler, self._turns(), world_size=world_size)
        self._pipeline = pipeline.DecodePipeline(
            self._read(waiting),
            records.dataset.image,
            spec.model.input_shape,
            most_images=-(-self._sampler.global_batch_size // world_size),
            companions=self._changes.draw,
            signature=self._changes.signature,
        )
        self.dataset = self._build()

    def __exit__(self, *_exception: object) -> None:
        self._prefetcher.close()

    def explain(self, error: tf.errors.OpError) -> Exception:
        """Return the trainer's own error behind one that TensorFlow raised for this input."""
        return self._pipeline.explain(error)

    def _read(self, waiting: Callable[[], contextlib.AbstractContextManager[None]]) -> Iterator[reader.RecordBatch]:
        """Yield the batches as they are read; what is decoded ahead is used up soon after this waits."""
        while True:
            with waiting():
                batch = next(self._prefetcher, None)
            if batch is None:
                return
            yield batch

    def _turns(self) -> Iterator[tuple[int, int]]:
        """Yield (step, replica) in the order of the elements; a long run has millions of them."""
        return ((step, replica) for step in self._remaining if step not in self._left_out for replica in self._replicas)

    def _record_ids(self, step: int, replica: int) -> npt.NDArray[np.int64]:
        return self._sampler.worker_records(step, replica, self._world_size)

    def _build(self) -> tf.data.Dataset:
        dataset = self._pipeline.dataset
        if self._changes.has_transforms:
            dataset = dataset.map(self._changes.apply, num_parallel_calls=2, deterministic=True).prefetch(2)
        # Said to be endless, the iterator of a worker group does not ask all workers at each step whether one has
        # ended: every worker knows the number of steps.
        return dataset.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))


def distribute(strategy: tf.distribute.Strategy, dataset: tf.data.Dataset) -> tf.data.Iterator:
    """Return the iterator of a worker: each turn gives one element to every local replica, in order.

    Where the replicas are accelerators, batches are copied to their memory ahead of their use, as the uint8 they are:
    the model's first layer casts and scales them there.
    """
    options = None
    if tf.config.list_logical_devices("GPU"):
        options = tf.distribute.InputOptions(
            experimental_fetch_to_device=True, experimental_per_replica_buffer_size=_BATCHES_ON_DEVICE
        )
    return iter(strategy.distribute_datasets_from_function(lambda _context: dataset, options))


def check_batches(records: int, steps_per_epoch: int, world_size: int) -> None:
    """Check that every replica gets a sample in every step; some operations of TensorFlow fail on an empty batch.

    Raises:
        ConfigError: the smallest global batch of the epoch has fewer samples than there are replicas.
    """
    smallest = records // steps_per_epoch
    if smallest < world_size:
        raise errors.ConfigError(
            f"spec.workers must be at most {smallest} for a training split of {records} images in {steps_per_epoch} "
            f"steps an epoch, got {world_size} replicas. Raise training.globalBatchSize, or use fewer workers."
        )


def plan_evaluation(
    records: int, *, replicas: range, world_size: int, batch_size: int
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
    """Cut a split among all replicas so that each sample is counted exactly once.

    Every local replica gets the same number of batches, for they run in lockstep. One that has no samples left gets the
    first sample of the split with weight 0.

    Args:
        records: samples of the split.
        replicas: ranks of this worker's replicas among all replicas.
        world_size: number of all replicas.
        batch_size: most samples of one batch of one replica.

    Returns:
        record ids (batch,) int64 and weights (batch,) float32 of 0 or 1, one pair a batch and local replica, in order.
    """
    parts = [np.arange(records)[sampler.slice_for(records, replica, world_size)] for replica in replicas]
    batches = max(1, *(-(-len(part) // batch_size) for part in parts))
    plan = []
    for index in range(batches):
        for part in parts:
            ids = part[index * batch_size : (index + 1) * batch_size]
            weights = np.ones(len(ids), np.float32)
            if not len(ids):
                ids, weights = np.zeros(1, np.int64), np.zeros(1, np.float32)
            plan.append((ids.astype(np.int64), weights))
    return plan


@contextlib.contextmanager
def evaluation_batches(
    records: reader.DatasetReader, input_shape: tuple[int, ...], plan: list[Any]
) -> Iterator[tuple[tf.data.Dataset, pipeline.DecodePipeline]]:
    """Yield the dataset of an evaluation plan: images, labels, record_ids, and weights (batch,) float32."""
    with prefetch.Prefetcher(records, (ids for ids, _ in plan)) as prefetcher:
        most_images = max(len(ids) for ids, _ in plan)
        decoded = pipeline.DecodePipeline(prefetcher, records.dataset.image, input_shape, most_images=most_images)
        weights = tf.data.Dataset.from_generator(
            lambda: (weight for _, weight in plan), output_signature=tf.TensorSpec((None,), tf.float32)
        )
        dataset = tf.data.Dataset.zip((decoded.dataset, weights)).map(lambda batch, w: {**batch, "weights": w})
        yield dataset.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)), decoded
