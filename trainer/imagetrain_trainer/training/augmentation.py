"""Random changes of training images, drawn from (seed, epoch, record): identical at any worker count.

The random figures are drawn here, outside the graph; all changes of one image are one projective transform, applied by
one operation for the whole batch.
"""

import numpy as np
import tensorflow as tf
from numpy import typing as npt

from imagetrain_api import training_settings
from imagetrain_trainer.data import hashing

# One stream of random figures for each change, so that adding a change never moves another.
_FLIP_X, _FLIP_Y, _SHIFT_X, _SHIFT_Y, _ROTATION, _ZOOM = range(1, 7)


def is_identity(settings: training_settings.AugmentationSettings) -> bool:
    """Tell whether no image would change."""
    return settings.flip == "none" and not (settings.shift or settings.rotation_degrees or settings.zoom)


def draw_transforms(
    settings: training_settings.AugmentationSettings,
    *,
    seed: int,
    epoch: int,
    record_ids: npt.NDArray[np.int64],
    height: int,
    width: int,
) -> npt.NDArray[np.float32]:
    """Draw one transform a record.

    A transform maps an output pixel to the input pixel that it shows:
    (x, y) -> (a0 x + a1 y + a2, b0 x + b1 y + b2), all about the image's centre.

    Args:
        settings: what may change, and how far.
        seed: the run's seed.
        epoch: 0-based epoch.
        record_ids: (batch,) ids within the training split.
        height: of the images, in pixels.
        width: of the images, in pixels.

    Returns:
        (batch, 8) float32: a0 a1 a2 b0 b1 b2 0 0, as tf.raw_ops.ImageProjectiveTransformV3 takes them.
    """

    def draw(stream: int) -> npt.NDArray[np.float64]:
        return hashing.uniform(seed, epoch, stream, record_ids)  # (batch,) in [0, 1)

    def signed(stream: int) -> npt.NDArray[np.float64]:
        return 2.0 * draw(stream) - 1.0

    flips_x = (draw(_FLIP_X) < 0.5) & (settings.flip in ("horizontal", "both"))
    flips_y = (draw(_FLIP_Y) < 0.5) & (settings.flip in ("vertical", "both"))
    scale = 1.0 / (1.0 + settings.zoom * signed(_ZOOM))
    angle = np.deg2rad(settings.rotation_degrees) * signed(_ROTATION)
    cosine, sine = np.cos(angle) * scale, np.sin(angle) * scale
    sign_x, sign_y = np.where(flips_x, -1.0, 1.0), np.where(flips_y, -1.0, 1.0)
    a0, a1, b0, b1 = cosine * sign_x, -sine * sign_y, sine * sign_x, cosine * sign_y
    center_x, center_y = (width - 1) / 2.0, (height - 1) / 2.0
    a2 = center_x - a0 * center_x - a1 * center_y + settings.shift * width * signed(_SHIFT_X)
    b2 = center_y - b0 * center_x - b1 * center_y + settings.shift * height * signed(_SHIFT_Y)
    zero = np.zeros_like(a0)
    return np.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1).astype(np.float32)


def apply_transforms(images: tf.Tensor, transforms: tf.Tensor, fill: str) -> tf.Tensor:
    """Change a batch of images.

    Args:
        images: (batch, height, width, channels) uint8.
        transforms: (batch, 8) float32 from `draw_transforms`.
        fill: `constant` (black), `nearest` or `reflect`.

    Returns:
        uint8 of the same shape, bilinearly sampled and rounded.
    """
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=transforms,
        output_shape=tf.shape(images)[1:3],
        interpolation="BILINEAR",
        fill_mode=fill.upper(),
        fill_value=0.0,
    )
    return tf.cast(tf.round(moved), tf.uint8)  # images: (batch, height, width, channels) uint8
