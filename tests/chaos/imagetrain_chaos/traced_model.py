"""The model of the elastic runs: chaos_cnn that writes down which images each training step of each rank was given.

Each image of elastic.py carries its number in its first two pixels, and augmentation is off: what is written is read
out of the pixels that the model is trained on, so it holds whatever the reader, the sampler and the decoder did.
"""

import json
import os
import pathlib

import keras
import numpy as np
import tensorflow as tf
from numpy import typing as npt

from imagetrain_api import names
from imagetrain_chaos import chaos_model, gate, traces
from imagetrain_trainer.models import registry, small_cnn
from imagetrain_trainer.training import reporter


class _Step:
    """The 0-based global step that is trained next."""

    number = 0


def _follow_steps() -> None:
    """Learn the number of the first step of each execution, as the loop itself reports it."""
    enter_step = reporter.Reporter.enter_step

    def note(report: reporter.Reporter, step: int, last: int | None = None) -> None:
        _Step.number = step - 1
        enter_step(report, step, last)

    reporter.Reporter.enter_step = note  # type: ignore[method-assign, assignment]  # there is no hook


_follow_steps()  # whoever imports this module trains with it


@keras.saving.register_keras_serializable(package="imagetrain_chaos")
class Trace(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Passes its input on, in training only after it has written down what it is."""

    def call(self, features: tf.Tensor, *, training: bool | None = None) -> tf.Tensor:
        """Return the input."""
        if not training:
            return features
        with tf.control_dependencies([tf.numpy_function(write_step, [features[:, 0, :2, 0]], [])]):
            return tf.identity(features)


@registry.register("traced_cnn", smallest_side_pixels=small_cnn.SMALLEST_SIDE_PIXELS)
def build_traced_cnn(images: keras.KerasTensor, context: registry.BuildContext, *, width: int = 8) -> keras.KerasTensor:
    """Map images (batch, height, width, channels) in 0..1 to logits (batch, classes)."""
    return small_cnn.build_small_cnn(Trace()(images), context, width=width, dropout=0.3)


def write_step(pixels: npt.NDArray[np.float32]) -> None:
    """Append one line to this process's trace, and be held up as long as the gate says.

    Args:
        pixels: the first two pixels of each image, (batch, 2) in 0..1.
    """
    digits = np.rint(pixels * 255).astype(int)
    line = {"step": _Step.number, "images": (digits[:, 0] * 256 + digits[:, 1]).tolist()}
    _Step.number += 1
    folder = pathlib.Path(os.environ[gate.ENV_FOLDER]) / traces.FOLDER
    folder.mkdir(exist_ok=True)
    name = traces.build_name(int(os.environ[names.ENV_GENERATION]), int(os.environ[names.ENV_RANK]))
    with (folder / name).open("a", encoding="ascii") as stream:
        stream.write(json.dumps(line) + "\n")
    chaos_model.pass_gate()
