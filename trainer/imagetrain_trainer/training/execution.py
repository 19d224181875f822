"""The training graph: k steps of the whole worker group in one call, and one small all-reduce to agree on the next.

Custom because `model.fit` under MultiWorkerMirroredStrategy fails on Keras 3 (keras-team/keras#20585).
"""

import dataclasses

import keras
import numpy as np
import tensorflow as tf
from numpy import typing as npt

from imagetrain_api import training_settings

SAVE, COPY = 1, 2
"""What `Signals.save` may ask for: a checkpoint, or a copy of the state on each worker's own disk."""
_LOSS, _CORRECT, _COUNT = range(3)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What each worker tells the others at the end of an execution; sums over the group decide.

    Attributes:
        stop: 1 when this worker was asked to stop.
        save: what is due by the chief's clock, `SAVE` or `COPY`; 0 from the others.
        next_steps: the chief's choice of steps for the next execution; 0 from the others.
    """

    stop: int = 0
    save: int = 0
    next_steps: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionResult:
    """One execution, the same on every worker but for the stall.

    Attributes:
        losses: (steps,) float64 mean loss of each step over the global batch.
        correct: samples classified right.
        images: samples trained on.
        stall_seconds: time that this worker's steps waited for input.
        signals: sums over the group.
    """

    losses: npt.NDArray[np.float64]
    loss_sum: float
    correct: int
    images: int
    stall_seconds: float
    signals: Signals


class TrainingExecution:
    """Holds the compiled training function of one strategy, model and optimizer."""

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        settings: training_settings.TrainingSettings,
        *,
        classes: int,
        local_replicas: int,
    ) -> None:
        """Prepare; the graph is compiled by the first `run`.

        Args:
            strategy: the joined group.
            model: gives logits; made in the strategy's scope.
            optimizer: made in the strategy's scope.
            settings: the job's.
            classes: length of the logits.
            local_replicas: replicas of this worker, each with the same signals to add.
        """
        self._strategy = strategy
        self._model = model
        self._optimizer = optimizer
        self._classes = classes
        self._local_replicas = local_replicas
        self._smoothing = settings.label_smoothing
        self.most_steps = settings.steps_per_execution
        with strategy.scope():
            # Per step: loss sum, correct, count. Each replica adds its own; nothing is exchanged until the end.
            self._figures = tf.Variable(
                tf.zeros((self.most_steps, 3)),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )
            optimizer.build(model.trainable_variables)
        # AutoGraph has nothing to convert here, and looks into no layer of Keras; its look takes a second.
        self._run = tf.function(self._execute, reduce_retracing=True, autograph=False)

    def run(self, iterator: tf.data.Iterator, steps: int, signals: Signals) -> ExecutionResult:
        """Train `steps` steps, at most `most_steps`.

        Raises:
            tf.errors.OpError: a collective or the input failed.
        """
        told = tf.constant([signals.stop, signals.save, signals.next_steps], tf.float32)
        totals, stall = self._run(iterator, tf.constant(steps), told)
        values = totals.numpy().astype(np.float64)
        figures = values[:-3].reshape(self.most_steps, 3)[:steps]  # (steps, 3)
        stop, save, next_steps = (round(value) for value in values[-3:])
        with np.errstate(invalid="ignore"):
            losses = figures[:, _LOSS] / figures[:, _COUNT]
        return ExecutionResult(
            losses=losses,
            loss_sum=float(figures[:, _LOSS].sum()),
            correct=round(figures[:, _CORRECT].sum()),
            images=round(figures[:, _COUNT].sum()),
            stall_seconds=float(stall),
            signals=Signals(stop=stop, save=save, next_steps=next_steps),
        )

    def _execute(self, iterator: tf.data.Iterator, steps: tf.Tensor, told: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        self._strategy.run(lambda: self._figures.assign(tf.zeros_like(self._figures)))

        def turn(index: tf.Tensor, stall: tf.Tensor, done: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            with tf.control_dependencies([done]):
                asked_at = tf.timestamp()
            with tf.control_dependencies([asked_at]):
                batch = next(iterator)
            with tf.control_dependencies(self._strategy.experimental_local_results(batch["labels"])):
                got_at = tf.timestamp()
            with tf.control_dependencies([got_at]):  # else a lone thread may look at the clock after the step
                batch = tf.nest.map_structure(tf.identity, batch, expand_composites=True)
            losses = self._strategy.run(self._step, args=(batch, index))
            return index + 1, stall + got_at - asked_at, self._strategy.experimental_local_results(losses)[0]

        # `done` ties the wait for input to the end of the step before, so that the wait is a stall.
        start = (tf.constant(0), tf.constant(0.0, tf.float64), tf.constant(0.0))
        _, stall, _ = tf.while_loop(lambda index, *_: index < steps, turn, start)
        parts = self._strategy.run(self._collect, args=(told,))
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, parts, axis=None), stall

    def _step(self, batch: dict[str, tf.Tensor], index: tf.Tensor) -> tf.Tensor:
        labels = batch["labels"]  # (batch,) int32
        variables = self._model.trainable_variables
        with tf.GradientTape() as tape:
            logits = self._model(batch["images"], training=True)  # (batch, classes) float32
            losses = self.sample_losses(labels, logits)  # (batch,) float32
            loss = tf.reduce_sum(losses) / batch["global_size"]
        gradients = tape.gradient(loss, variables)
        self._optimizer.apply(gradients, variables)  # sums the gradients over all replicas
        correct = tf.reduce_sum(tf.cast(tf.argmax(logits, axis=1, output_type=tf.int32) == labels, tf.float32))
        row = tf.stack([tf.reduce_sum(losses), correct, tf.cast(tf.size(labels), tf.float32)])  # (3,)
        self._figures.assign_add(tf.one_hot(index, self.most_steps)[:, tf.newaxis] * row)
        # Reads come after the updates, so `loss` is known when the whole step is done.
        with tf.control_dependencies([_read(variable) for variable in variables]):
            return tf.identity(loss)

    def sample_losses(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Return the cross-entropy of each sample, with label smoothing (Szegedy et al. 2016): (batch,) float32."""
        if not self._smoothing:
            return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        targets = tf.one_hot(labels, self._classes, 1.0 - self._smoothing, 0.0) + self._smoothing / self._classes
        return tf.nn.softmax_cross_entropy_with_logits(targets, logits)

    def _collect(self, told: tf.Tensor) -> tf.Tensor:
        return tf.concat([tf.reshape(self._figures.read_value(), [-1]), told / self._local_replicas], axis=0)


def _read(variable: keras.Variable) -> tf.Tensor:
    """Read this replica's value, with nothing around it: there are hundreds of variables."""
    return tf.raw_ops.ReadVariableOp(resource=variable.value.handle, dtype=variable.value.dtype)
