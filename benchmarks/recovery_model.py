"""mobilenet_v2 behind a gate where rank 1 can be made to block in Python, as a user's own layer may.

A job names this module in `spec.model.module`. Each training step of that rank looks for the file GATE; when it is
there, the step puts TAKEN beside it and sleeps for ever.
"""

import os
import pathlib
import time

import keras
import tensorflow as tf

from imagetrain_api import names
from imagetrain_trainer.models import mobilenet_v2, registry

ENV_FOLDER = "IMAGETRAIN_BENCH_GATE"
GATE, TAKEN = "block", "taken"
RANK = 1


@keras.saving.register_keras_serializable(package="imagetrain_benchmarks")
class Gate(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Passes its input on, in training only after a look into the folder."""

    def call(self, features: tf.Tensor, *, training: bool | None = None) -> tf.Tensor:
        """Return the input."""
        if not training:
            return features
        with tf.control_dependencies([tf.py_function(pass_gate, [], [])]):
            return tf.identity(features)


@registry.register("gated_mobilenet_v2", smallest_side_pixels=mobilenet_v2.SMALLEST_SIDE_PIXELS)
def build_gated(images: keras.KerasTensor, context: registry.BuildContext) -> keras.KerasTensor:
    """Map images (batch, height, width, channels) in 0..1 to logits (batch, classes)."""
    return mobilenet_v2.build_mobilenet_v2(Gate()(images), context)


def pass_gate() -> None:
    """Block for ever when this rank is asked to."""
    folder = pathlib.Path(os.environ[ENV_FOLDER])
    if os.environ[names.ENV_RANK] == str(RANK) and (folder / GATE).exists():
        (folder / TAKEN).touch()
        while True:
            time.sleep(1.0)
