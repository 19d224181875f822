import keras
import numpy as np
import tensorflow as tf

from imagetrain_trainer.models import normalization

IMAGES = np.random.default_rng(0).normal(3.0, 2.0, (6, 5, 4, 8)).astype(np.float32)


def normalized(layer: keras.layers.Layer, images: np.ndarray = IMAGES) -> np.ndarray:
    strategy = tf.distribute.get_strategy()
    return np.asarray(strategy.run(lambda: layer(tf.constant(images), training=True)))


def test_one_replica_normalizes_as_keras_does() -> None:
    ours, theirs = normalization.SynchronizedBatchNormalization(), keras.layers.BatchNormalization()
    for _ in range(3):  # the second pass is centred on the moving mean of the first
        np.testing.assert_allclose(normalized(ours), normalized(theirs), atol=2e-5)
    for one, other in zip(ours.variables, theirs.variables, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_statistics_do_not_depend_on_the_order_of_samples() -> None:
    first, second = normalization.SynchronizedBatchNormalization(), normalization.SynchronizedBatchNormalization()
    order = np.array([3, 1, 5, 0, 4, 2])
    np.testing.assert_array_equal(normalized(first)[order], normalized(second, IMAGES[order]))


def test_large_mean_costs_no_digits_once_the_moving_mean_is_near() -> None:
    layer = normalization.SynchronizedBatchNormalization(momentum=0.0)
    shifted = IMAGES + 1000.0
    normalized(layer, shifted)
    values = normalized(layer, shifted)
    np.testing.assert_allclose(values.std(axis=(0, 1, 2)), 1.0, atol=1e-3)


def test_gradient_is_that_of_keras() -> None:
    gradients = []
    for kind in (normalization.SynchronizedBatchNormalization, keras.layers.BatchNormalization):
        layer = kind()
        images = tf.Variable(IMAGES)

        def step(layer: keras.layers.Layer = layer, images: tf.Variable = images) -> tf.Tensor:
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.sin(layer(images, training=True)))
            return tape.gradient(loss, images)

        gradients.append(np.asarray(tf.distribute.get_strategy().run(step)))
    np.testing.assert_allclose(gradients[0], gradients[1], atol=1e-4)
