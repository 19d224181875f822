import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
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


def gradients(layer: keras.layers.Layer, images: np.ndarray, run: Callable[..., Any]) -> list[np.ndarray]:
    """Return outputs and the gradients of images, gamma and beta, which are not 1 and 0."""
    values = tf.Variable(images)
    layer.build(images.shape)
    channels = images.shape[layer.axis]
    layer.set_weights([np.linspace(0.5, 2.0, channels), np.linspace(-1.0, 1.0, channels), *layer.get_weights()[2:]])

    def step() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            outputs = layer(values, training=True)
            loss = tf.reduce_sum(tf.sin(outputs))
        return [outputs, *tape.gradient(loss, [values, layer.gamma.value, layer.beta.value])]

    return [np.asarray(found) for found in tf.distribute.get_strategy().run(run(step))]


@pytest.mark.parametrize("run", [tf.function, lambda step: step], ids=["graph", "eager"])
@pytest.mark.parametrize(("shape", "axis"), [((6, 5, 4, 8), -1), ((6, 8), -1), ((6, 8, 5, 4), 1), ((6, 8, 3), 1)])
def test_gradients_are_those_of_keras(shape: tuple[int, ...], axis: int, run: Callable[..., Any]) -> None:
    images = IMAGES.reshape(-1)[: math.prod(shape)].reshape(shape)
    ours = gradients(normalization.SynchronizedBatchNormalization(axis=axis), images, run)
    theirs = gradients(keras.layers.BatchNormalization(axis=axis), images, run)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_layer_without_scale_and_centre_is_that_of_keras() -> None:
    settings = {"scale": False, "center": False}
    ours = normalized(normalization.SynchronizedBatchNormalization(**settings))
    np.testing.assert_allclose(ours, normalized(keras.layers.BatchNormalization(**settings)), atol=2e-5)


def test_layer_that_is_not_to_be_trained_uses_its_moving_statistics() -> None:
    layer = normalization.SynchronizedBatchNormalization(trainable=False)
    np.testing.assert_allclose(normalized(layer), IMAGES / np.sqrt(1.0 + layer.epsilon), rtol=1e-6)
    np.testing.assert_array_equal(layer.moving_mean, np.zeros(8))


def test_channel_without_variance_has_finite_gradients() -> None:
    for found in gradients(normalization.SynchronizedBatchNormalization(), np.ones_like(IMAGES), tf.function):
        assert np.isfinite(found).all()
