"""Which image files a data set takes, and how each is stored: the policy table of docs/dataset-format.md, as code.

An 8-bit grayscale or RGB JPEG or PNG keeps its bytes. What TensorFlow would decode differently from other readers, or
not at all, is decoded here and stored as PNG, and counted under the name of the change. What cannot be converted
without a choice that is the user's is refused.
"""

import dataclasses
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from imagetrain_trainer import errors

MAX_PIXELS = 89_478_485
"""Pillow's own limit against decompression bombs: 256 MB of RGB."""
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm", ".avif"})
"""File names that count as images where a folder may hold other files."""

# Phones write JPEGs with a second picture (a depth map) behind the first: MPO. Every decoder reads the first.
_KEPT = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png"}
_GRAY_ALPHA = frozenset({"LA", "La"})
_COLOR_ALPHA = frozenset({"RGBA", "RGBa", "PA"})
_TO_COLOR = {"P": "palette to rgb", "CMYK": "cmyk to rgb", "YCbCr": "ycbcr to rgb"}
_EXIF_ORIENTATION = 0x0112
_WHITE = (255, 255, 255, 255)
_LEVELS = np.arange(256)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """One image as it goes into a record.

    Attributes:
        payload: the bytes to store.
        format: "jpeg", "png" or "raw".
        height: pixels.
        width: pixels.
        channels: 1 or 3.
        change: what was done to it, such as "webp to png"; empty when its bytes are kept.
        pixel_sums: (channels,) sum of each channel, exact.
        pixel_square_sums: (channels,) sum of each channel's squares, exact.
    """

    payload: bytes
    format: str
    height: int
    width: int
    channels: int
    change: str
    pixel_sums: tuple[int, ...]
    pixel_square_sums: tuple[int, ...]


def read_image(data: bytes, channels: int | None = None) -> StoredImage:
    """Decode an image file completely and decide how to store it.

    Args:
        data: the file.
        channels: 1 stores color as gray; 3 keeps gray, which decoders repeat; None keeps each as it is.

    Raises:
        errors.ConfigError: the file is refused; the message is a rule, for the caller to prefix with the file's name.
    """
    if not data:
        raise errors.ConfigError("must be an image, got an empty file")
    try:
        with Image.open(io.BytesIO(data)) as image:
            _check_header(image)
            image.load()
            return _store(image, data, channels)
    except UnidentifiedImageError as e:
        raise errors.ConfigError("must be an image that Pillow can read") from e
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as e:
        raise errors.ConfigError(f"must have at most {MAX_PIXELS} pixels") from e
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError) as e:
        raise errors.ConfigError(f"must be a whole image that decodes ({str(e)[:80]})") from e


def store_raw(pixels: npt.NDArray[np.uint8]) -> StoredImage:
    """Store an array, (height, width, channels) uint8, as raw bytes."""
    sums, square_sums = _sum_pixels(pixels)
    height, width, channels = pixels.shape
    return StoredImage(
        payload=pixels.tobytes(),
        format="raw",
        height=height,
        width=width,
        channels=channels,
        change="",
        pixel_sums=sums,
        pixel_square_sums=square_sums,
    )


def _check_header(image: Image.Image) -> None:
    is_animated = image.format != "MPO" and getattr(image, "n_frames", 1) > 1
    if image.format == "GIF" or is_animated:
        raise errors.ConfigError("must be one still image, got a GIF or an animation: export one frame as PNG")
    if image.width * image.height > MAX_PIXELS:
        raise errors.ConfigError(f"must have at most {MAX_PIXELS} pixels, got {image.width} x {image.height}")
    # Pillow opens 16-bit RGB files as 8-bit RGB: only the raw mode of the decoder shows it.
    raw_modes = [str(tile[3]) for tile in getattr(image, "tile", [])]
    if image.mode.startswith(("I", "F")) or any(";16" in mode for mode in raw_modes):
        raise errors.ConfigError("must have 8 bits per channel, got 16 or more: scale it to 8 bits first")


def _store(image: Image.Image, data: bytes, channels: int | None) -> StoredImage:
    source = image.format or "unknown"
    changes = [] if source in _KEPT else [f"{source.lower()} to png"]
    if image.getexif().get(_EXIF_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
        changes.append("rotated as its EXIF says")
    image = _to_gray_or_color(image, changes)
    if channels == 1 and image.mode == "RGB":
        image = image.convert("L")
        changes.append("rgb to gray")
    pixels = np.asarray(image, np.uint8).reshape(image.height, image.width, -1)
    sums, square_sums = _sum_pixels(pixels)
    return StoredImage(
        payload=_encode_png(pixels) if changes else data,
        format="png" if changes else _KEPT[source],
        height=image.height,
        width=image.width,
        channels=pixels.shape[2],
        change=", ".join(changes),
        pixel_sums=sums,
        pixel_square_sums=square_sums,
    )


def _to_gray_or_color(image: Image.Image, changes: list[str]) -> Image.Image:
    """Return the image in mode L or RGB, and note the change if it had another."""
    mode = image.mode
    if mode in _GRAY_ALPHA or mode in _COLOR_ALPHA or "transparency" in image.info:
        changes.append("alpha laid on white")
        flat = Image.new("RGBA", image.size, _WHITE)
        flat.alpha_composite(image.convert("RGBA"))
        return flat.convert("L" if mode in _GRAY_ALPHA or mode in ("L", "1") else "RGB")
    if mode in ("L", "RGB"):
        return image
    if mode == "1":
        changes.append("1 bit to 8 bit gray")
        return image.convert("L")
    if mode in _TO_COLOR:
        changes.append(_TO_COLOR[mode])
        return image.convert("RGB")
    raise errors.ConfigError(f"must be gray, RGB, palette, alpha or CMYK, got color mode {mode!r}")


def _encode_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Encode without any metadata, so that equal pixels give equal bytes (under one version of Pillow and zlib)."""
    out = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(out, "PNG", compress_level=6)
    return out.getvalue()


def _sum_pixels(pixels: npt.NDArray[np.uint8]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sum each channel of (height, width, channels), and its squares, exactly."""
    counts: list[npt.NDArray[Any]] = [
        np.bincount(pixels[..., channel].ravel(), minlength=256) for channel in range(pixels.shape[2])
    ]
    return tuple(int(count @ _LEVELS) for count in counts), tuple(int(count @ _LEVELS**2) for count in counts)
