"""Batch normalization whose statistics span all replicas, with one collective a layer and direction."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="imagetrain")
class SynchronizedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]  # Keras has no types
    """BatchNormalization (Ioffe and Szegedy 2015) over the global batch.

    Keras' own `synchronized=True` makes three all-reduces a layer and takes the variance as E[x^2] - E[x]^2, which
    loses digits where the mean is large. This one sums deviations from the moving mean, which every replica holds
    alike, and sends sum, sum of squares and count together. Replicas may have batches of different sizes, or none.
    """

    def _moments(self, inputs: tf.Tensor, mask: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        replica = tf.distribute.get_replica_context()
        if mask is not None or replica is None:
            moments: tuple[tf.Tensor, tf.Tensor] = super()._moments(inputs, mask)
            return moments
        axes = [axis for axis in range(len(inputs.shape)) if axis != self.axis % len(inputs.shape)]
        center = tf.stop_gradient(tf.cast(self.moving_mean, tf.float32))  # (channels,)
        shape = [1] * len(inputs.shape)
        shape[self.axis] = -1
        deviations = tf.cast(inputs, tf.float32) - tf.reshape(center, shape)
        sums = tf.reduce_sum(deviations, axes)  # (channels,)
        squares = tf.reduce_sum(tf.square(deviations), axes)  # (channels,)
        count = tf.cast(tf.size(inputs) // tf.shape(inputs)[self.axis], tf.float32)
        local = tf.concat([sums, squares, count[tf.newaxis]], axis=0)  # (2 * channels + 1,)
        everywhere = replica.all_reduce(tf.distribute.ReduceOp.SUM, local)
        channels = tf.size(center)
        mean = everywhere[:channels] / everywhere[-1]
        variance = tf.maximum(everywhere[channels:-1] / everywhere[-1] - tf.square(mean), 0.0)
        return mean + center, variance
