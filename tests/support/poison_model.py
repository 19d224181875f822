"""A model whose training ends the process at one image: small_cnn behind a layer that looks at each image.

A job names this module in `spec.model.module`. `poison.py` names the image.
"""

import os

import keras
import numpy as np
import tensorflow as tf

import poison
from imagetrain_trainer.models import registry, small_cnn


@keras.saving.register_keras_serializable(package="poison")
class Taster(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Passes its input on; in training, the poison image ends the process."""

    def call(self, images: tf.Tensor, *, training: bool | None = None) -> tf.Tensor:
        """Return the input."""
        if not training:
            return images
        with tf.control_dependencies([tf.py_function(_taste, [images], [])]):
            return tf.identity(images)


def _taste(images: tf.Tensor) -> None:
    for image in np.round(images.numpy() * 255).astype(np.uint8):
        if poison.digest(image) == int(os.environ[poison.ENV_POISON]):
            os.write(2, b"poison tasted\n")
            os.abort()


@registry.register("poison_cnn", smallest_side_pixels=small_cnn.SMALLEST_SIDE_PIXELS)
def build_poison_cnn(
    images: keras.KerasTensor, context: registry.BuildContext, *, width: int = 8, dropout: float = 0.3
) -> keras.KerasTensor:
    """Map images (batch, height, width, channels) in 0..1 to logits (batch, classes)."""
    return small_cnn.build_small_cnn(Taster()(images), context, width=width, dropout=dropout)
