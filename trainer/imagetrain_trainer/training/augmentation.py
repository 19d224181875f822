"""Random changes of training images, drawn from (seed, epoch, position in the epoch): the same at any worker count.

The position and not the record, for the copies of a record in a balanced epoch to differ.

The random figures are drawn here, outside the graph. The decoder crops (`draw_windows`), and it mirrors where nothing
else is to be done (`draw_flips`); any other changes of one image are one projective transform, mirroring included,
applied by one operation for the whole batch.
"""

import numpy as np
import tensorflow as tf
from numpy import typing as npt

from imagetrain_api import training_settings
from imagetrain_trainer.data import hashing
from imagetrain_trainer.data.streams import Stream


def needs_transforms(settings: training_settings.AugmentationSettings) -> bool:
    """Tell whether more than windows and mirroring is asked for."""
    return bool(settings.shift or settings.rotation_degrees or settings.zoom)


def draw_flips(
    settings: training_settings.AugmentationSettings, *, seed: int, epoch: int, positions: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Draw who is mirrored: (batch, 2), upside down and left to right."""
    columns = ((Stream.FLIP_Y, "vertical"), (Stream.FLIP_X, "horizontal"))
    drawn = [
        (hashing.uniform(seed, epoch, stream, positions) < 0.5) & (settings.flip in (name, "both"))
        for stream, name in columns
    ]
    return np.stack(drawn, axis=1)


def draw_windows(
    crop: training_settings.CropSettings,
    *,
    seed: int,
    epoch: int,
    positions: npt.NDArray[np.int64],
    heights: npt.NDArray[np.int32],
    widths: npt.NDArray[np.int32],
) -> npt.NDArray[np.int32]:
    """Draw one window a sample.

    As tf.image.sample_distorted_bounding_box does, but with nothing to try again: the aspect ratio is uniform, then the
    height is uniform among the heights at which a window of that ratio lies within the image and has at most the
    largest area and at least the smallest. Where no such height is, the largest that fits is taken: an image that is
    long and narrow shows less than the smallest area rather than another aspect ratio. The place is uniform.

    Args:
        crop: the limits.
        seed: the run's seed.
        epoch: 0-based epoch.
        positions: (batch,) of the samples in the epoch.
        heights: (batch,) of the stored images, in pixels, at least 1.
        widths: (batch,) likewise.

    Returns:
        (batch, 4) int32: top, left, height, width.
    """

    def draw(stream: int) -> npt.NDArray[np.float64]:
        return hashing.uniform(seed, epoch, stream, positions)  # (batch,) in [0, 1)

    areas = heights.astype(np.float64) * widths
    ratios = crop.min_aspect_ratio + (crop.max_aspect_ratio - crop.min_aspect_ratio) * draw(Stream.CROP_ASPECT)
    most = np.minimum(np.sqrt(crop.max_area * areas / ratios), np.minimum(heights, widths / ratios))
    least = np.minimum(np.sqrt(crop.min_area * areas / ratios), most)
    tall = least + (most - least) * draw(Stream.CROP_HEIGHT)
    window_heights = np.clip(np.rint(tall), 1, heights)
    window_widths = np.clip(np.rint(tall * ratios), 1, widths)
    tops = np.floor(draw(Stream.CROP_TOP) * (heights - window_heights + 1))
    lefts = np.floor(draw(Stream.CROP_LEFT) * (widths - window_widths + 1))
    return np.stack([tops, lefts, window_heights, window_widths], axis=1).astype(np.int32)


def draw_transforms(
    settings: training_settings.AugmentationSettings,
    *,
    seed: int,
    epoch: int,
    positions: npt.NDArray[np.int64],
    height: int,
    width: int,
) -> npt.NDArray[np.float32]:
    """Draw one transform a sample.

    A transform maps an output pixel to the input pixel that it shows:
    (x, y) -> (a0 x + a1 y + a2, b0 x + b1 y + b2), all about the image's centre.

    Args:
        settings: what may change, and how far.
        seed: the run's seed.
        epoch: 0-based epoch.
        positions: (batch,) of the samples in the epoch.
        height: of the images, in pixels.
        width: of the images, in pixels.

    Returns:
        (batch, 8) float32: a0 a1 a2 b0 b1 b2 0 0, as tf.raw_ops.ImageProjectiveTransformV3 takes them.
    """

    def draw(stream: int) -> npt.NDArray[np.float64]:
        return hashing.uniform(seed, epoch, stream, positions)  # (batch,) in [0, 1)

    def signed(stream: int) -> npt.NDArray[np.float64]:
        return 2.0 * draw(stream) - 1.0

    flips_y, flips_x = draw_flips(settings, seed=seed, epoch=epoch, positions=positions).T
    scale = 1.0 / (1.0 + settings.zoom * signed(Stream.ZOOM))
    angle = np.deg2rad(settings.rotation_degrees) * signed(Stream.ROTATION)
    cosine, sine = np.cos(angle) * scale, np.sin(angle) * scale
    sign_x, sign_y = np.where(flips_x, -1.0, 1.0), np.where(flips_y, -1.0, 1.0)
    a0, a1, b0, b1 = cosine * sign_x, -sine * sign_y, sine * sign_x, cosine * sign_y
    center_x, center_y = (width - 1) / 2.0, (height - 1) / 2.0
    a2 = center_x - a0 * center_x - a1 * center_y + settings.shift * width * signed(Stream.SHIFT_X)
    b2 = center_y - b0 * center_x - b1 * center_y + settings.shift * height * signed(Stream.SHIFT_Y)
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
