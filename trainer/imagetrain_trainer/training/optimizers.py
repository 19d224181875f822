"""Optimizers, and how their gradients are summed over the group."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from imagetrain_api import training_settings
from imagetrain_trainer.training import schedule

# Gradients travel in buckets of about this size, as in PyTorch's DistributedDataParallel (Li et al. 2020, 3.2.3).
BUCKET_BYTES = 25 * 1024 * 1024

Pairs = list[tuple[tf.Tensor | None, Any]]


class FusedGradientSum:
    """Mixin for Keras optimizers: sums gradients over the replicas in few large collectives.

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
            flat = tf.concat([tf.reshape(gradient, [-1]) for gradient in gradients], axis=0)
            summed = replica.all_reduce(tf.distribute.ReduceOp.SUM, flat)
            parts = tf.split(summed, [gradient.shape.num_elements() for gradient in gradients])
            for index, gradient, part in zip(indexes, gradients, parts, strict=True):
                pairs[index] = (tf.reshape(part, gradient.shape), pairs[index][1])
        return pairs


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


class GroupSGD(FusedGradientSum, keras.optimizers.SGD):  # type: ignore[misc]  # Keras has no types
    """SGD over a worker group."""


class GroupAdam(FusedGradientSum, keras.optimizers.Adam):  # type: ignore[misc]  # Keras has no types
    """Adam over a worker group."""


def build_optimizer(
    settings: training_settings.OptimizerSettings, rate: schedule.LearningRate
) -> keras.optimizers.Optimizer:
    """Return the Keras optimizer of the job."""
    decay = settings.weight_decay or None
    if settings.name == "sgd":
        return GroupSGD(rate, momentum=settings.momentum, nesterov=settings.nesterov, weight_decay=decay)
    return GroupAdam(rate, beta_1=settings.beta1, beta_2=settings.beta2, epsilon=settings.epsilon, weight_decay=decay)
