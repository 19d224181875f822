"""Optimizers in few operations, and how their gradients are summed over the group.

Keras spells an update out in 35 operations a variable: a quarter of the graph of mobilenet_v2, which every start of a
training process traces and optimizes anew. TensorFlow has each update in one operation, with the same arithmetic.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from imagetrain_api import training_settings
from imagetrain_trainer.training import schedule

# Gradients travel in buckets of about this size, as in PyTorch's DistributedDataParallel (Li et al. 2020, 3.2.3).
BUCKET_BYTES = 25 * 1024 * 1024

Pairs = list[tuple[tf.Tensor | None, Any]]


class GroupOptimizer(keras.optimizers.Optimizer):  # type: ignore[misc]  # Keras has no types
    """What its optimizers have in common: gradients are summed over the replicas in few large collectives.

    Keras hands TensorFlow the gradients one by one, which makes one collective a variable: 158 a step of mobilenet_v2.
    """

    def _all_reduce_sum_gradients(self, grads_and_vars: Iterable[tuple[tf.Tensor | None, Any]]) -> Pairs:
        """Take the place of Keras' method: return the pairs with the gradients summed over all replicas."""
        pairs = list(grads_and_vars)
        replica = tf.distribute.get_replica_context()
        if replica is None or replica.num_replicas_in_sync == 1:
            return pairs
        given = [index for index, (gradient, _) in enumerate(pairs) if gradient is not None]
        # The last layers' gradients are ready first.
        for bucket in plan_buckets([pairs[index][0] for index in given][::-1], BUCKET_BYTES):
            indexes = [given[len(given) - 1 - position] for position in bucket]
            gradients = [tf.convert_to_tensor(pairs[index][0]) for index in indexes]
            line = tf.constant([-1])
            flat = [gradient if gradient.shape.rank == 1 else tf.reshape(gradient, line) for gradient in gradients]
            summed = replica.all_reduce(tf.distribute.ReduceOp.SUM, tf.concat(flat, axis=0))
            parts = tf.split(summed, [gradient.shape.num_elements() for gradient in gradients])
            for index, gradient, part in zip(indexes, gradients, parts, strict=True):
                shaped = part if gradient.shape.rank == 1 else tf.reshape(part, gradient.shape)
                pairs[index] = (shaped, pairs[index][1])
        return pairs

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Take the place of Keras' method, which computes the learning rate anew for each variable."""
        if self.weight_decay is None:
            return
        decayed = [variable.value for variable in variables if self._use_weight_decay(variable)]

        def decay(distribution: tf.distribute.Strategy, share: tf.Tensor) -> None:
            for variable in decayed:
                distribution.extended.update(variable, _shrink, args=(share,), group=False)

        share = self.learning_rate * self.weight_decay
        tf.__internal__.distribute.interim.maybe_merge_call(decay, self._distribution_strategy, share)


def plan_buckets(gradients: Sequence[Any], bucket_bytes: int) -> list[list[int]]:
    """Cut gradients, in order, into runs of one type of at most `bucket_bytes`; a larger gradient is a run alone."""
    buckets: list[list[int]] = []
    size, dtype = 0, None
    for position, gradient in enumerate(gradients):
        gradient_bytes = gradient.shape.num_elements() * gradient.dtype.size
        if not buckets or gradient.dtype != dtype or size + gradient_bytes > bucket_bytes:
            buckets.append([])
            size, dtype = 0, gradient.dtype
        buckets[-1].append(position)
        size += gradient_bytes
    return buckets


def _shrink(variable: tf.Variable, share: tf.Tensor) -> None:
    variable.assign_sub(variable * tf.cast(share, variable.dtype))


class GroupSGD(GroupOptimizer, keras.optimizers.SGD):  # type: ignore[misc]  # Keras has no types
    """SGD over a worker group."""

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Update one variable of one replica as Keras' SGD does."""
        rate, gradient = tf.cast(learning_rate, variable.dtype), _densify(gradient, variable.dtype)
        if not self.momentum:
            tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=rate, delta=gradient)
            return
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self.momentums[self._get_variable_index(variable)].value.handle,
            lr=rate,
            grad=gradient,
            momentum=self.momentum,
            use_nesterov=self.nesterov,
        )


class AdamFigures(NamedTuple):
    """What an update of Adam (Kingma and Ba 2015, algorithm 1) needs besides the variable: float32 scalars."""

    rate: tf.Tensor
    beta_1: tf.Tensor
    beta_2: tf.Tensor
    beta_1_power: tf.Tensor
    beta_2_power: tf.Tensor
    epsilon: tf.Tensor


class GroupAdam(GroupOptimizer, keras.optimizers.Adam):  # type: ignore[misc]  # Keras has no types
    """Adam over a worker group."""

    def _backend_update_step(
        self, grads: Sequence[tf.Tensor], trainable_variables: Sequence[Any], learning_rate: tf.Tensor
    ) -> None:
        """Compute once what every variable needs, and hand it to `update_step` in place of the learning rate."""
        step = tf.cast(self.iterations + 1, tf.float32)
        beta_1, beta_2 = tf.constant(self.beta_1, tf.float32), tf.constant(self.beta_2, tf.float32)
        figures = AdamFigures(
            rate=tf.cast(learning_rate, tf.float32),
            beta_1=beta_1,
            beta_2=beta_2,
            beta_1_power=tf.pow(beta_1, step),
            beta_2_power=tf.pow(beta_2, step),
            epsilon=tf.constant(self.epsilon, tf.float32),
        )
        super()._backend_update_step(grads, trainable_variables, figures)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: AdamFigures) -> None:
        """Update one variable of one replica as Keras' Adam does."""
        figures = AdamFigures(*(tf.cast(figure, variable.dtype) for figure in learning_rate))
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=figures.beta_1_power,
            beta2_power=figures.beta_2_power,
            lr=figures.rate,
            beta1=figures.beta_1,
            beta2=figures.beta_2,
            epsilon=figures.epsilon,
            grad=_densify(gradient, variable.dtype),
        )


def _densify(gradient: tf.Tensor | tf.IndexedSlices, dtype: tf.DType) -> tf.Tensor:
    """Return a gradient as a tensor; that of an embedding comes as slices."""
    return tf.cast(tf.convert_to_tensor(gradient), dtype)


def build_optimizer(
    settings: training_settings.OptimizerSettings, rate: schedule.LearningRate
) -> keras.optimizers.Optimizer:
    """Return the Keras optimizer of the job."""
    decay = settings.weight_decay or None
    if settings.name == "sgd":
        return GroupSGD(rate, momentum=settings.momentum, nesterov=settings.nesterov, weight_decay=decay)
    return GroupAdam(rate, beta_1=settings.beta1, beta_2=settings.beta2, epsilon=settings.epsilon, weight_decay=decay)
