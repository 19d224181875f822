"""Batch normalization whose statistics span all replicas, with one collective a layer and direction."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="imagetrain")
class SynchronizedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]  # Keras has no types
    """BatchNormalization (Ioffe and Szegedy 2015) over the global batch.

    Keras' own `synchronized=True` makes three all-reduces a layer and takes the variance as E[x^2] - E[x]^2, which
    loses digits where the mean is large. This one squares deviations from the moving mean, which every replica holds
    alike, and sends sum, sum of squares and count together. Samples are added in float64, so that the statistics, and
    with them each sample's activations, are the same however the global batch is cut. Replicas may have batches of
    different sizes, or none.
    """

    def _moments(self, inputs: tf.Tensor, mask: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        replica = tf.distribute.get_replica_context()
        if mask is not None or replica is None:
            moments: tuple[tf.Tensor, tf.Tensor] = super()._moments(inputs, mask)
            return moments
        rank, channel_axis = len(inputs.shape), self.axis % len(inputs.shape)
        within_sample = [axis for axis in range(1, rank) if axis != channel_axis]
        center = tf.stop_gradient(tf.cast(self.moving_mean, tf.float32))  # (channels,)
        shape = [-1 if axis == channel_axis else 1 for axis in range(rank)]
        values = tf.cast(inputs, tf.float32)
        squared = tf.math.squared_difference(values, tf.reshape(center, shape))
        sums = _sum_over_samples(tf.reduce_sum(values, within_sample))  # (channels,) float64
        squares = _sum_over_samples(tf.reduce_sum(squared, within_sample))
        count = tf.cast(tf.size(inputs) // tf.shape(inputs)[channel_axis], tf.float64)
        local = tf.concat([sums, squares, count[tf.newaxis]], axis=0)  # (2 * channels + 1,)
        everywhere = replica.all_reduce(tf.distribute.ReduceOp.SUM, local)
        channels = tf.size(center)
        mean = everywhere[:channels] / everywhere[-1]
        offset = mean - tf.cast(center, tf.float64)
        variance = tf.maximum(everywhere[channels:-1] / everywhere[-1] - tf.square(offset), 0.0)
        return tf.cast(mean, tf.float32), tf.cast(variance, tf.float32)


def _sum_over_samples(per_sample: tf.Tensor) -> tf.Tensor:
    """Sum (batch, channels) over the batch, so exactly that their order does not change the float32 made of it."""
    return tf.reduce_sum(tf.cast(per_sample, tf.float64), axis=0)
