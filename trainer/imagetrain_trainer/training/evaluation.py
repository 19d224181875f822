"""Validation: every sample exactly once, at any number of workers, with one all-reduce at the end."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from numpy import typing as npt

from imagetrain_api import job
from imagetrain_trainer.data import reader
from imagetrain_trainer.training import inputs


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult:
    """Figures of one split over the whole group.

    Attributes:
        loss: mean cross-entropy without label smoothing.
        accuracy: top-1.
        confusion: (classes, classes) int64, rows are labels, columns are answers.
    """

    loss: float
    accuracy: float
    confusion: npt.NDArray[np.int64]

    @property
    def samples(self) -> int:
        """Samples counted."""
        return int(self.confusion.sum())


class Evaluation:
    """Holds the compiled evaluation function of one strategy and model."""

    def __init__(self, strategy: tf.distribute.Strategy, model: keras.Model, spec: job.JobSpec, classes: int) -> None:
        self._strategy = strategy
        self._model = model
        self._classes = classes
        self._input_shape = spec.model.input_shape
        self._batch_size = max(1, -(-spec.training.global_batch_size // strategy.num_replicas_in_sync))
        with strategy.scope():
            self._confusion = self._accumulator((classes, classes), tf.int64)
            self._loss = self._accumulator((), tf.float64)
        self._step = tf.function(self._run_step, reduce_retracing=True, autograph=False)
        self._read = tf.function(self._read_sums, autograph=False)

    @staticmethod
    def _accumulator(shape: tuple[int, ...], dtype: tf.DType) -> tf.Variable:
        return tf.Variable(
            tf.zeros(shape, dtype),
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
        )

    def run(self, records: reader.DatasetReader, replicas: range, beat: Callable[[], None]) -> EvaluationResult:
        """Evaluate a split.

        Args:
            records: the split.
            replicas: ranks of this worker's replicas among all replicas.
            beat: called after each batch, to show that the worker lives.

        Raises:
            tf.errors.OpError: a collective failed.
            DataCorruptError: a record is damaged.
        """
        world_size = self._strategy.num_replicas_in_sync
        plan = inputs.plan_evaluation(
            records.records, replicas=replicas, world_size=world_size, batch_size=self._batch_size
        )
        self._confusion.assign(tf.zeros_like(self._confusion))
        self._loss.assign(tf.zeros_like(self._loss))
        with inputs.evaluation_batches(records, self._input_shape, plan) as (dataset, decoded):
            distributed = inputs.distribute(self._strategy, dataset)
            try:
                for _ in range(len(plan) // len(replicas)):
                    self._step(distributed)
                    beat()
            except tf.errors.OpError as error:
                raise decoded.explain(error) from error
        confusion, loss = self._read()
        return _build_result(confusion.numpy(), float(loss.numpy()))

    def _run_step(self, iterator: tf.data.Iterator) -> None:
        self._strategy.run(self._replica_step, args=(next(iterator),))

    def _replica_step(self, batch: dict[str, tf.Tensor]) -> None:
        labels, weights = batch["labels"], batch["weights"]  # (batch,) int32, (batch,) float32
        logits = self._model(batch["images"], training=False)  # (batch, classes) float32
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        answers = tf.argmax(logits, axis=1, output_type=tf.int32)
        counts = tf.math.confusion_matrix(labels, answers, self._classes, weights, tf.float32)
        self._confusion.assign_add(tf.cast(tf.round(counts), tf.int64))
        self._loss.assign_add(tf.cast(tf.reduce_sum(losses * weights), tf.float64))

    def _read_sums(self) -> tuple[tf.Tensor, tf.Tensor]:
        parts = self._strategy.run(lambda: (self._confusion.read_value(), self._loss.read_value()))
        confusion, loss = (self._strategy.reduce(tf.distribute.ReduceOp.SUM, part, axis=None) for part in parts)
        return confusion, loss


def _build_result(confusion: npt.NDArray[np.int64], loss_sum: float) -> EvaluationResult:
    samples = int(confusion.sum())
    return EvaluationResult(loss=loss_sum / samples, accuracy=float(np.trace(confusion) / samples), confusion=confusion)
