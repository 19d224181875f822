"""How packing stores an image: its own bytes, JPEG, PNG, or pixels of one size that need no decoding. Pure.

`images` decides what an image file means; here its pixels, or those of an array, become the payload of a record.
"""

import dataclasses
import hashlib
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from imagetrain_trainer import errors
from imagetrain_trainer.data import images

KINDS = ("keep", "jpeg", "png", "raw")
_DIGEST_BYTES = 16
_MAX_SIDE = 65_500  # libjpeg's JPEG_MAX_DIMENSION
_FILE_FORMATS = {"jpeg": "JPEG", "png": "PNG"}
_TO_PNG = " to png"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EncodingOptions:
    """How to store images; all of it shapes the bytes."""

    kind: str = "keep"
    """`jpeg`, `png`, `raw`, or `keep`: a file's own bytes where all decoders read them alike, else PNG; arrays raw."""
    quality: int | None = None
    """Of `jpeg`, 1 to 100; 90 by default."""
    longest_side: int | None = None
    """Of `jpeg` and `png`: larger images are scaled down to it, in pixels; none is enlarged."""
    size: tuple[int, int] | None = None
    """Of `raw`: height and width in pixels that every image is scaled to, whatever its shape."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise errors.ConfigError(f"encoding must be one of {', '.join(KINDS)}, got {self.kind!r}.")
        self._check_use("quality", self.quality, ("jpeg",))
        self._check_use("longest side", self.longest_side, ("jpeg", "png"))
        self._check_use("size", self.size, ("raw",))
        if self.kind == "raw" and self.size is None:
            raise errors.ConfigError("size must be given (HEIGHTxWIDTH) with encoding raw, got none.")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise errors.ConfigError(f"quality must be 1 to 100, got {self.quality!r}.")
        for name, sides in (("longest side", (self.longest_side,)), ("size", self.size or ())):
            if not all(side is None or 1 <= side <= _MAX_SIDE for side in sides):
                raise errors.ConfigError(f"{name} must be 1 to {_MAX_SIDE} pixels, got {sides!r}.")

    def _check_use(self, name: str, value: object, kinds: tuple[str, ...]) -> None:
        if value is not None and self.kind not in kinds:
            raise errors.ConfigError(
                f"{name} must be left out unless encoding is {' or '.join(kinds)}, got {value!r} with {self.kind!r}."
            )

    def as_json(self) -> dict[str, Any]:
        """Return what `dataset.json` says of it: only what is set."""
        document: dict[str, Any] = {"encoding": self.kind}
        if self.kind == "jpeg":
            document["quality"] = self._quality
        if self.longest_side is not None:
            document["longestSide"] = self.longest_side
        if self.size is not None:
            document["size"] = list(self.size)
        return document

    @property
    def _quality(self) -> int:
        return 90 if self.quality is None else self.quality


@dataclasses.dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image to store, and what tells it from others.

    Attributes:
        stored: payload and facts. Its pixel sums are those that a reader will find: after scaling and JPEG's loss.
        digest: 16 bytes, equal for images whose upright pixels are equal before they are scaled or encoded again,
            whatever files they came in.
    """

    stored: images.StoredImage
    digest: bytes


def encode(
    data: bytes | npt.NDArray[np.uint8],
    options: EncodingOptions,
    channels: int | None = None,
    policy: images.ImagePolicy = images.DEFAULT_POLICY,
) -> EncodedImage:
    """Decode an image completely and encode it as it is to be stored.

    Args:
        data: an image file, or pixels (height, width, 1 or 3) uint8.
        options: how.
        channels: 1 stores color as gray. 3 keeps gray files, which decoders repeat, and repeats gray raw pixels.
        policy: see `images`.

    Raises:
        errors.ConfigError: the image is refused; the message is a rule, for the caller to prefix with its name.
    """
    if isinstance(data, bytes):
        decoded = images.decode_image(data, channels, policy)
        file = data
    else:
        decoded, file = _take_array(data, channels), b""
    digest = _digest(decoded.pixels)
    if options.kind == "raw" or (options.kind == "keep" and not file):
        return EncodedImage(_store_raw(decoded, options, channels), digest)
    return EncodedImage(_store_file(decoded, file, options), digest)


def resize(pixels: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Scale (h, w, c) to (height, width, c): bilinear, antialiased, rounded once.

    Pillow's triangle filter on floating point channels is `pipeline.resize_images` to within 1 of 255: both round at
    the very end, of sums taken in another order.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    planes = [
        Image.fromarray(pixels[..., channel].astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
        for channel in range(pixels.shape[2])
    ]
    scaled = np.stack([np.asarray(plane) for plane in planes], axis=-1)
    rounded: npt.NDArray[np.uint8] = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return rounded


def _take_array(pixels: npt.NDArray[np.uint8], channels: int | None) -> images.DecodedImage:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
        raise errors.ConfigError(
            f"must be uint8 pixels of shape (height, width, 1 or 3), got {pixels.dtype} of {pixels.shape}"
        )
    if pixels.shape[0] * pixels.shape[1] > images.MAX_PIXELS:
        raise errors.ConfigError(f"must have at most {images.MAX_PIXELS} pixels, got {pixels.shape}")
    if channels == 1 and pixels.shape[2] == 3:
        gray = np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"))[..., None]
        return images.DecodedImage(gray, None, "rgb to gray")
    return images.DecodedImage(pixels, None, "")


def _digest(pixels: npt.NDArray[np.uint8]) -> bytes:
    whole = hashlib.sha256(repr(pixels.shape).encode())
    whole.update(np.ascontiguousarray(pixels).data)
    return whole.digest()[:_DIGEST_BYTES]


def _store_raw(decoded: images.DecodedImage, options: EncodingOptions, channels: int | None) -> images.StoredImage:
    pixels = decoded.pixels
    changes = _name_changes(decoded, "raw")
    if options.size is not None and pixels.shape[:2] != options.size:
        pixels = resize(pixels, *options.size)
        changes.append("scaled")
    if channels == 3 and pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
        changes.append("gray repeated")
    return _describe(pixels, np.ascontiguousarray(pixels).tobytes(), "raw", changes)


def _store_file(decoded: images.DecodedImage, file: bytes, options: EncodingOptions) -> images.StoredImage:
    pixels = decoded.pixels
    if options.kind == "keep" and decoded.kept_format is not None:
        return _describe(pixels, file, decoded.kept_format, [])
    kind = "jpeg" if options.kind == "jpeg" else "png"
    changes = _name_changes(decoded, kind)
    height, width = pixels.shape[:2]
    longest = options.longest_side
    if longest is not None and max(height, width) > longest:
        pixels = resize(pixels, *_fit(height, width, longest))
        changes.append("scaled")
    if kind == "png":
        is_kept = decoded.kept_format == "png" and not changes
        return _describe(pixels, file if is_kept else images.encode_png(pixels), "png", changes)
    payload = _encode_jpeg(pixels, options._quality)  # noqa: SLF001 - of this module
    return _describe(_decode_jpeg(payload), payload, "jpeg", changes)


def _fit(height: int, width: int, longest: int) -> tuple[int, int]:
    """Return the size that keeps the shape; rounded half up in integers, so that no floating point matters."""
    largest = max(height, width)
    return max(1, (2 * height * longest + largest) // (2 * largest)), max(
        1, (2 * width * longest + largest) // (2 * largest)
    )


def _name_changes(decoded: images.DecodedImage, kind: str) -> list[str]:
    """Return what was done to the image, with the encoding that it gets instead of PNG."""
    changes = [change for change in decoded.change.split(", ") if change]
    changes = [
        change.removesuffix(_TO_PNG) + f" to {kind}" if change.endswith(_TO_PNG) else change for change in changes
    ]
    if decoded.kept_format not in (None, kind):
        changes.insert(0, f"{decoded.kept_format} to {kind}")
    elif decoded.kept_format == "jpeg":
        changes.insert(0, "jpeg encoded again")
    return changes


def _encode_jpeg(pixels: npt.NDArray[np.uint8], quality: int) -> bytes:
    if max(pixels.shape[:2]) > _MAX_SIDE:
        raise errors.ConfigError(
            f"must have at most {_MAX_SIDE} pixels a side to become a JPEG, got {pixels.shape[0]} x {pixels.shape[1]}"
        )
    out = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
    picture.save(out, "JPEG", quality=quality)
    return out.getvalue()


def _decode_jpeg(payload: bytes) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(payload), formats=("JPEG",)) as image:
        return np.asarray(image, np.uint8).reshape(image.height, image.width, -1)


def _describe(pixels: npt.NDArray[np.uint8], payload: bytes, kind: str, changes: list[str]) -> images.StoredImage:
    sums, square_sums = images.sum_pixels(pixels)
    height, width, channels = pixels.shape
    return images.StoredImage(
        payload=payload,
        format=kind,
        height=height,
        width=width,
        channels=channels,
        change=", ".join(changes),
        pixel_sums=sums,
        pixel_square_sums=square_sums,
    )
