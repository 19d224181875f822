"""From an image file to the pixels a model takes, without TensorFlow: as `data.pipeline` does, to within 1 of 255."""

import io
import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from imagetrain_trainer import errors
from imagetrain_trainer.data import images


def load_pixels(data: bytes, input_shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """Decode an image file and fit it to a model.

    The file is read as `imagetrain data pack` reads it (formats, EXIF rotation, transparency). Colour is then dropped,
    or grey repeated, as the model asks.

    Args:
        data: content of the file.
        input_shape: (height, width, channels) of the model.

    Returns:
        (height, width, channels) uint8.

    Raises:
        ConfigError: it is no image that can be trained on; the message is the rule, to be prefixed by the file's name.
    """
    height, width, channels = input_shape
    stored = images.read_image(data)
    with Image.open(io.BytesIO(stored.payload)) as picture:
        decoded = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    pixels = decoded.reshape(stored.height, stored.width, channels)
    return resize(pixels, height, width)


def resize(pixels: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Resize an image (h, w, channels) bilinearly with antialiasing, as `tf.image.resize` does.

    The kernel is a triangle that widens with the reduction (tensorflow/core/kernels/image/scale_and_translate_op.cc),
    and axes are independent.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    down = _resampling_matrix(pixels.shape[0], height)
    across = _resampling_matrix(pixels.shape[1], width)
    resized = np.einsum("yh,hwc,xw->yxc", down, pixels.astype(np.float32), across, optimize=True)
    rounded: npt.NDArray[np.uint8] = np.clip(np.rint(resized), 0, 255).astype(np.uint8)
    return rounded


def _resampling_matrix(size: int, new_size: int) -> npt.NDArray[np.float32]:
    """Return weights (new_size, size) of each source pixel in each target pixel; rows sum to 1."""
    scale = size / new_size
    reach = max(scale, 1.0)
    weights = np.zeros((new_size, size), np.float64)
    for target in range(new_size):
        centre = (target + 0.5) * scale
        first = max(0, math.floor(centre - reach))
        sources = np.arange(first, min(size, math.ceil(centre + reach) + 1))
        kernel = np.maximum(0.0, 1.0 - np.abs(sources + 0.5 - centre) / reach)
        weights[target, sources] = kernel / kernel.sum()
    return weights.astype(np.float32)


def name_rule(error: errors.ConfigError, name: str) -> errors.ConfigError:
    """Prefix the rule that `load_pixels` raised with the file's name."""
    return errors.ConfigError(f"{name} {error}. Give PNG or JPEG images.")
