"""Which image files a data set takes, and how each is stored: the policy table of docs/dataset-format.md, as code.

An 8-bit grayscale or RGB JPEG or PNG keeps its bytes. What TensorFlow would decode differently from other readers, or
not at all, is decoded here and stored as PNG, and counted under the name of the change. What cannot be converted
without a choice that is the user's is refused until `ImagePolicy` holds that choice.
"""

import dataclasses
import functools
import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from imagetrain_trainer import errors
from imagetrain_trainer.data import image_limits

MAX_PIXELS = image_limits.MAX_PIXELS
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm", ".avif"})
"""File names that count as images where a folder may hold other files."""

# Pillow knows more: some that start another program (EPS runs Ghostscript) or only name a handler that is not there.
_FORMATS = (
    "JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "AVIF", "JPEG2000", "TGA", "PCX", "SGI", "ICO",
    "QOI",
)  # fmt: skip
# Phones write JPEGs with a second picture (a depth map) behind the first: MPO. Every decoder reads the first.
_KEPT = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png"}
_GRAY_ALPHA = frozenset({"LA", "La"})
_COLOR_ALPHA = frozenset({"RGBA", "RGBa", "PA"})
_TO_COLOR = {"P": "palette to rgb", "CMYK": "cmyk to rgb", "YCbCr": "ycbcr to rgb"}
_EXIF_ORIENTATION = 0x0112
_TURNED = frozenset(range(2, 9))
_BACKGROUNDS = {"white": (255, 255, 255, 255), "black": (0, 0, 0, 255)}
_POLICIES = {"sixteen_bit": ("refuse", "scale"), "alpha": ("white", "black", "refuse"), "animated": ("refuse", "first")}
_LEVELS = np.arange(256)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ImagePolicy:
    """What to do with images that cannot be stored without a choice."""

    sixteen_bit: str = "refuse"
    """Of images with more than 8 bits a channel: `refuse`, or `scale` to the upper 8 bits."""
    alpha: str = "white"
    """What transparent pixels are laid on, `white` or `black`; or `refuse`."""
    animated: str = "refuse"
    """Of GIFs, animations and files of several pages: `refuse`, or take the `first` picture."""

    def __post_init__(self) -> None:
        for name, choices in _POLICIES.items():
            value = getattr(self, name)
            if value not in choices:
                raise errors.ConfigError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")


DEFAULT_POLICY = ImagePolicy()


@dataclasses.dataclass(frozen=True, slots=True)
class DecodedImage:
    """The pixels of an image file, upright, in 8 bits, gray or RGB.

    Attributes:
        pixels: (height, width, 1 or 3) uint8.
        kept_format: "jpeg" or "png" when every decoder reads these pixels from the file itself; None otherwise.
        change: what was done to it, such as "webp to png"; empty when its bytes may be kept.
    """

    pixels: npt.NDArray[np.uint8]
    kept_format: str | None
    change: str


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


def read_image(data: bytes, channels: int | None = None, policy: ImagePolicy = DEFAULT_POLICY) -> StoredImage:
    """Decode an image file completely and decide how to store it; arguments and errors as of `decode_image`."""
    decoded = decode_image(data, channels, policy)
    payload = encode_png(decoded.pixels) if decoded.kept_format is None else data
    return _describe(decoded.pixels, payload, decoded.kept_format or "png", decoded.change)


def store_raw(pixels: npt.NDArray[np.uint8]) -> StoredImage:
    """Store an array, (height, width, channels) uint8, as raw bytes."""
    return _describe(pixels, pixels.tobytes(), "raw", "")


def decode_image(data: bytes, channels: int | None = None, policy: ImagePolicy = DEFAULT_POLICY) -> DecodedImage:
    """Decode an image file completely, after looking whether its header promises more than memory should hold.

    Args:
        data: the file.
        channels: 1 turns color to gray; 3 keeps gray, which decoders repeat; None keeps each as it is.
        policy: the user's choices.

    Raises:
        errors.ConfigError: the file is refused; the message is a rule, for the caller to prefix with the file's name.
    """
    image_limits.check_length(data)
    try:
        with Image.open(io.BytesIO(data), formats=_find_formats()) as image:
            return _decode(image, data, channels, policy)
    except errors.ConfigError:
        raise
    except UnidentifiedImageError as e:
        raise errors.ConfigError(image_limits.explain_unknown(data)) from e
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as e:
        raise errors.ConfigError(f"must have at most {MAX_PIXELS} pixels") from e
    except Exception as e:  # Pillow's decoders raise whatever broken bytes lead them to: struct.error, KeyError, ...
        raise errors.ConfigError(f"must be a whole image that decodes ({str(e)[:80]})") from e


def encode_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Encode (height, width, 1 or 3) without any metadata, so that equal pixels give equal bytes.

    That holds under one version of Pillow and zlib.
    """
    out = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(out, "PNG", compress_level=6)
    return out.getvalue()


def sum_pixels(pixels: npt.NDArray[np.uint8]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sum each channel of (height, width, channels), and its squares, exactly."""
    picture = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
    # Pillow counts all channels at once, six times faster than numpy's bincount of each: (channels, 256).
    counts = np.array(picture.histogram(), np.int64).reshape(-1, len(_LEVELS))
    return tuple(int(count @ _LEVELS) for count in counts), tuple(int(count @ _LEVELS**2) for count in counts)


@functools.cache
def _find_formats() -> tuple[str, ...]:
    Image.init()  # Pillow loads its rarer readers on demand only; a build of it may lack AVIF
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _describe(pixels: npt.NDArray[np.uint8], payload: bytes, kind: str, change: str) -> StoredImage:
    sums, square_sums = sum_pixels(pixels)
    height, width, channels = pixels.shape
    return StoredImage(
        payload=payload,
        format=kind,
        height=height,
        width=width,
        channels=channels,
        change=change,
        pixel_sums=sums,
        pixel_square_sums=square_sums,
    )


def _decode(image: Image.Image, data: bytes, channels: int | None, policy: ImagePolicy) -> DecodedImage:
    source = image.format or "unknown"
    image_limits.check_work(image, data)
    changes = [] if source in _KEPT else [f"{source.lower()} to png"]
    if image_limits.is_sequence(image):
        if policy.animated == "refuse":
            raise errors.ConfigError(
                "must be one still image, got a GIF or an animation: export one frame as PNG, or pack with "
                "--animated first"
            )
        changes.append("first frame taken")
    if _KEPT.get(source) == "jpeg" and not image_limits.is_common_jpeg(data):
        changes.append("uncommon jpeg to png")
    if source == "PNG" and not image_limits.is_whole_png(data):
        changes.append("damaged png written anew")
    is_deep = image_limits.has_deep_channels(image, data)
    if is_deep and (policy.sixteen_bit == "refuse" or not image_limits.can_be_scaled(image)):
        hint = ", or pack with --sixteen-bit scale" if policy.sixteen_bit == "refuse" else ""
        raise errors.ConfigError(
            f"must have 8 bits per channel, got 16 or more (mode {image.mode}): scale it to 8 bits first{hint}"
        )
    image.load()
    if _KEPT.get(source) == "jpeg" and image.mode == "CMYK" and "adobe" not in image.info:
        image = image.point(lambda value: 255 - value)  # Pillow takes all for inverted, and Adobe's alone are
    if is_deep:
        image = _scale(image)
        changes.append("16 bit to 8 bit")
    if _read_orientation(image) in _TURNED:
        image = ImageOps.exif_transpose(image)
        changes.append("rotated as its EXIF says")
    image = _to_gray_or_color(image, changes, policy)
    if channels == 1 and image.mode == "RGB":
        image = image.convert("L")
        changes.append("rgb to gray")
    pixels = np.asarray(image, np.uint8).reshape(image.height, image.width, -1)
    return DecodedImage(pixels, None if changes else _KEPT[source], ", ".join(changes))


def _read_orientation(image: Image.Image) -> object:
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - a broken EXIF block raises anything, and other readers pass it over
        return 1


def _scale(image: Image.Image) -> Image.Image:
    """Return a loaded image of more than 8 bits in 8; the upper bits, as libpng and Pillow's own RGB readers take."""
    transparent = image.info.get("transparency")
    if not image.mode.startswith("I"):
        if isinstance(transparent, tuple):  # in 16 bits, of which Pillow kept 8
            raise errors.ConfigError("must have no transparent color in 16 bits: make it an alpha channel or remove it")
        return image
    values = np.asarray(image).astype(np.int64)
    gray = Image.fromarray(np.clip(values >> 8, 0, 255).astype(np.uint8))
    if isinstance(transparent, int):
        alpha = Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))
        gray = Image.merge("LA", (gray, alpha))
    gray.info = {key: value for key, value in image.info.items() if key != "transparency"}
    return gray


def _to_gray_or_color(image: Image.Image, changes: list[str], policy: ImagePolicy) -> Image.Image:
    """Return the image in mode L or RGB, and note the change if it had another."""
    mode = image.mode
    if mode in _GRAY_ALPHA or mode in _COLOR_ALPHA or "transparency" in image.info:
        return _lay_on_background(image, changes, policy)
    if mode in ("L", "RGB"):
        return image
    if mode == "1":
        changes.append("1 bit to 8 bit gray")
        return image.convert("L")
    if mode in _TO_COLOR:
        changes.append(_TO_COLOR[mode])
        return image.convert("RGB")
    raise errors.ConfigError(f"must be gray, RGB, palette, alpha or CMYK, got color mode {mode!r}")


def _lay_on_background(image: Image.Image, changes: list[str], policy: ImagePolicy) -> Image.Image:
    if policy.alpha == "refuse":
        raise errors.ConfigError(
            "must have no alpha channel or transparent color: remove it, or pack with --alpha white or --alpha black"
        )
    changes.append(f"alpha laid on {policy.alpha}")
    flat = Image.new("RGBA", image.size, _BACKGROUNDS[policy.alpha])
    flat.alpha_composite(image.convert("RGBA"))
    is_gray = image.mode in _GRAY_ALPHA or image.mode in ("L", "1")
    return flat.convert("L" if is_gray else "RGB")
