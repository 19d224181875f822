"""Batch normalization whose statistics span all replicas, with one collective a layer and direction.

Forward and backward are written out here, in a fifth of the operations that Keras' layer and the gradients of its parts
take: half of the graph of mobilenet_v2, which every start of a training process traces and optimizes anew.
"""

import dataclasses
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

Gradients = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


@keras.saving.register_keras_serializable(package="imagetrain")
class SynchronizedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]  # Keras has no types
    """BatchNormalization (Ioffe and Szegedy 2015) over the global batch.

    Keras' own `synchronized=True` makes three all-reduces a layer and takes the variance as E[x^2] - E[x]^2, which
    loses digits where the mean is large. This one squares deviations from the moving mean, which every replica holds
    alike, and sends sum, sum of squares and count together. Samples are added in float64, so that the statistics, and
    with them each sample's activations, are the same however the global batch is cut. Replicas may have batches of
    different sizes, or none.
    """

    def call(  # Keras' signature
        self,
        inputs: tf.Tensor,
        training: bool | None = None,  # noqa: FBT001
        mask: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Normalize; nothing but training in a replica is other than in Keras."""
        replica = tf.distribute.get_replica_context()
        if not training or not self.trainable or mask is not None or replica is None or self.renorm:
            return super().call(inputs, training=training, mask=mask)
        values = tf.cast(inputs, tf.float32)
        layout = Layout(rank=len(inputs.shape), axis=self.axis % len(inputs.shape))
        moving_mean, moving_variance = (
            tf.convert_to_tensor(moving.value) for moving in (self.moving_mean, self.moving_variance)
        )
        statistics = measure(replica, layout, tf.stop_gradient(values), moving_mean)
        kept, new = tf.constant(self.momentum, tf.float32), tf.constant(1.0 - self.momentum, tf.float32)
        self.moving_mean.assign(moving_mean * kept + statistics.mean * new)
        self.moving_variance.assign(moving_variance * kept + statistics.variance * new)
        gamma = tf.convert_to_tensor(self.gamma.value) if self.scale else tf.ones_like(moving_mean)
        beta = tf.convert_to_tensor(self.beta.value) if self.center else tf.zeros_like(moving_mean)
        outputs = normalize(replica, layout, values, gamma, beta, statistics, self.epsilon)
        return tf.cast(outputs, self.compute_dtype)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the channels of a batch lie: the batch has `rank` axes, its first one counts samples."""

    rank: int
    axis: int

    def spread(self, figures: tf.Tensor) -> tf.Tensor:
        """Shape (channels,) so that it goes with a batch."""
        if self.axis == self.rank - 1:
            return figures
        return tf.reshape(figures, [-1 if axis == self.axis else 1 for axis in range(self.rank)])

    def sum_samples(self, batches: Sequence[tf.Tensor]) -> tf.Tensor:
        """Add up batches over all but the channels: (batches * channels,) float64.

        Over the samples the sum is so exact that their order does not change the float32 made of it.
        """
        within_sample = [axis for axis in range(1, self.rank) if axis != self.axis]
        if within_sample:
            axes = tf.constant(within_sample)
            batches = [tf.reduce_sum(batch, axes) for batch in batches]
        return tf.reduce_sum(tf.cast(tf.concat(batches, axis=1), tf.float64), axis=0)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Of one batch over all replicas: mean and variance, (channels,) float32; values of a channel, (1,) float64."""

    mean: tf.Tensor
    variance: tf.Tensor
    count: tf.Tensor


def measure(replica: tf.distribute.ReplicaContext, layout: Layout, values: tf.Tensor, center: tf.Tensor) -> Statistics:
    """Take the statistics of a float32 batch (a collective).

    Args:
        replica: where this is called.
        layout: of the batch.
        values: the batch.
        center: (channels,) the same on all replicas; the nearer to the mean, the more digits are right.
    """
    channels = values.shape[layout.axis]
    squared = tf.math.squared_difference(values, layout.spread(center))
    count = tf.cast(tf.size(values), tf.float64) / channels
    local = tf.concat([layout.sum_samples([values, squared]), count[tf.newaxis]], axis=0)  # (2 * channels + 1,)
    sums, squares, count = tf.split(_add_replicas(replica, local), [channels, channels, 1])
    mean = sums / count
    variance = squares / count - tf.math.squared_difference(mean, tf.cast(center, tf.float64))
    return Statistics(mean=tf.cast(mean, tf.float32), variance=tf.nn.relu(tf.cast(variance, tf.float32)), count=count)


def normalize(
    replica: tf.distribute.ReplicaContext,
    layout: Layout,
    values: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    statistics: Statistics,
    epsilon: float,
) -> tf.Tensor:
    """Return `gamma * (values - mean) / sqrt(variance + epsilon) + beta`.

    The gradient of the values takes in that they made the statistics (a collective); those of gamma and beta are this
    replica's share.
    """
    inverse = tf.math.rsqrt(statistics.variance + epsilon)

    @tf.custom_gradient  # type: ignore[untyped-decorator]  # TensorFlow has no types
    def apply(values: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Gradients]]:
        scale = inverse * gamma
        spread_scale = layout.spread(scale)

        def differentiate(upstream: tf.Tensor) -> Gradients:
            centred = values - layout.spread(statistics.mean)
            local = layout.sum_samples([upstream, upstream * centred])
            sums, products = tf.split(tf.cast(_add_replicas(replica, local) / statistics.count, tf.float32), 2)
            direct = (upstream - layout.spread(sums)) * spread_scale
            slope = products * scale * tf.square(inverse)
            local_sums, local_products = tf.split(tf.cast(local, tf.float32), 2)
            return direct - centred * layout.spread(slope), local_products * inverse, local_sums

        return values * spread_scale + layout.spread(beta - statistics.mean * scale), differentiate

    return apply(values, gamma, beta)


def _add_replicas(replica: tf.distribute.ReplicaContext, local: tf.Tensor) -> tf.Tensor:
    if replica.num_replicas_in_sync == 1:
        return local
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, local)
