"""The model of the chaos runs: small_cnn behind a gate where each training step can be held up, from Python.

A job names this module in `spec.model.module`, and every worker imports it. The gate asks the folder
IMAGETRAIN_CHAOS_FOLDER at each step, so that a test slows, blocks or swells one rank by a file. Nothing of it is in the
model that is published.
"""

import mmap
import os
import pathlib
import time

import keras
import tensorflow as tf

from imagetrain_api import names
from imagetrain_chaos import gate, save_phases
from imagetrain_trainer.models import registry, small_cnn

_BLOCK_POLL_SECONDS = 0.05
_ALLOCATION_BYTES = 16 << 20


@keras.saving.register_keras_serializable(package="imagetrain_chaos")
class Gate(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Passes its input on, in training only after a look into the folder."""

    def call(self, features: tf.Tensor, *, training: bool | None = None) -> tf.Tensor:
        """Return the input."""
        if not training:
            return features
        with tf.control_dependencies([tf.py_function(pass_gate, [], [])]):
            return tf.identity(features)


@registry.register("chaos_cnn", smallest_side_pixels=small_cnn.SMALLEST_SIDE_PIXELS)
def build_chaos_cnn(
    images: keras.KerasTensor, context: registry.BuildContext, *, width: int = 8, dropout: float = 0.3
) -> keras.KerasTensor:
    """Map images (batch, height, width, channels) in 0..1 to logits (batch, classes)."""
    return small_cnn.build_small_cnn(Gate()(images), context, width=width, dropout=dropout)


def _follow_saves() -> None:
    if os.environ.get(names.ENV_RANK) == "0" and (folder := os.environ.get(gate.ENV_FOLDER)):
        save_phases.follow_saves(gate.GateFolder(pathlib.Path(folder)).saves)


_follow_saves()  # whoever imports this module trains with it


def pass_gate() -> None:
    """Do what the files for this rank ask for."""
    folder = gate.GateFolder(pathlib.Path(os.environ[gate.ENV_FOLDER]))
    rank = int(os.environ[names.ENV_RANK])
    time.sleep(folder.pace_seconds(rank))
    if folder.take("block", rank):
        while folder.is_taken("block", rank):
            time.sleep(_BLOCK_POLL_SECONDS)
    if folder.take("allocate", rank):
        _allocate(folder, rank)


def _allocate(folder: gate.GateFolder, rank: int) -> None:
    """Take memory until the kernel ends this process, or until the test has seen enough."""
    taken = []
    while folder.is_taken("allocate", rank):
        piece = mmap.mmap(-1, _ALLOCATION_BYTES)
        piece.write(b"\1" * _ALLOCATION_BYTES)
        taken.append(piece)
