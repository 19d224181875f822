"""The policy for image files: what keeps its bytes, what is converted and how, what is refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from imagetrain_trainer import errors
from imagetrain_trainer.data import images

RANDOM = np.random.default_rng(3)
GRAY = RANDOM.integers(0, 256, (7, 9), np.uint8)
COLOR = RANDOM.integers(0, 256, (7, 9, 3), np.uint8)


def encode(image, kind, **options):
    out = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, kind, **options)
    return out.getvalue()


def pixels_of(stored):
    return np.asarray(Image.open(io.BytesIO(stored.payload)))


@pytest.mark.parametrize(
    ("data", "kind", "channels"),
    [
        (encode(GRAY, "PNG"), "png", 1),
        (encode(COLOR, "PNG"), "png", 3),
        (encode(GRAY, "JPEG"), "jpeg", 1),
        (encode(COLOR, "JPEG", progressive=True), "jpeg", 3),
        # A phone's JPEG with a second picture behind the first.
        (encode(COLOR, "MPO", save_all=True, append_images=[Image.fromarray(COLOR)]), "jpeg", 3),
    ],
)
def test_plain_jpeg_and_png_keep_their_bytes(data, kind, channels):
    stored = images.read_image(data)
    assert stored.payload == data
    assert (stored.format, stored.height, stored.width, stored.channels, stored.change) == (kind, 7, 9, channels, "")


def with_alpha(image, alpha):
    rgba = np.dstack([np.asarray(Image.fromarray(image).convert("RGB")), np.full(image.shape[:2], alpha, np.uint8)])
    return Image.fromarray(rgba)


PALETTE = Image.fromarray(COLOR).quantize(16)


@pytest.mark.parametrize(
    ("data", "change", "expected"),
    [
        (encode(COLOR, "WEBP", lossless=True), "webp to png", COLOR),
        (encode(COLOR, "TIFF"), "tiff to png", COLOR),
        (encode(GRAY, "BMP"), "bmp to png", GRAY),
        (encode(COLOR, "PPM"), "ppm to png", COLOR),
        (encode(PALETTE, "PNG"), "palette to rgb", np.asarray(PALETTE.convert("RGB"))),
        (encode(Image.fromarray(GRAY > 127), "PNG"), "1 bit to 8 bit gray", (GRAY > 127) * np.uint8(255)),
        (encode(with_alpha(COLOR, 255), "PNG"), "alpha laid on white", COLOR),
        (encode(with_alpha(COLOR, 0), "PNG"), "alpha laid on white", np.full_like(COLOR, 255)),
        (encode(with_alpha(GRAY, 255).convert("LA"), "PNG"), "alpha laid on white", GRAY),
        (encode(with_alpha(COLOR, 255), "TIFF"), "tiff to png, alpha laid on white", COLOR),
        (encode(GRAY, "PNG", transparency=300), "alpha laid on white", GRAY),
    ],
)
def test_what_decoders_disagree_on_is_stored_as_png(data, change, expected):
    stored = images.read_image(data)
    assert (stored.format, stored.change) == ("png", change)
    assert stored.channels == (1 if expected.ndim == 2 else 3)
    np.testing.assert_array_equal(pixels_of(stored), expected)


def test_cmyk_is_converted_to_rgb():
    stored = images.read_image(encode(Image.fromarray(COLOR).convert("CMYK"), "JPEG", quality=100))
    assert (stored.format, stored.change, stored.channels) == ("png", "cmyk to rgb", 3)
    assert pixels_of(stored).shape == (7, 9, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_rotated_photo_is_stored_upright(kind):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    stored = images.read_image(encode(COLOR, kind, exif=exif))
    assert (stored.format, stored.height, stored.width) == ("png", 9, 7)
    assert stored.change == "rotated as its EXIF says"
    if kind == "PNG":
        np.testing.assert_array_equal(pixels_of(stored), np.rot90(COLOR, -1))
    assert "exif" not in Image.open(io.BytesIO(stored.payload)).info


def test_channels_one_turns_color_to_gray_and_three_keeps_gray():
    gray = images.read_image(encode(COLOR, "PNG"), channels=1)
    assert (gray.channels, gray.change) == (1, "rgb to gray")
    data = encode(GRAY, "PNG")
    assert images.read_image(data, channels=3).payload == data


def test_converting_twice_gives_the_same_bytes():
    data = encode(COLOR, "TIFF", dpi=(72, 72), description="made at noon")
    assert images.read_image(data).payload == images.read_image(data).payload
    assert b"noon" not in images.read_image(data).payload


def test_pixel_sums_are_exact():
    stored = images.read_image(encode(COLOR, "PNG"))
    assert stored.pixel_sums == tuple(COLOR.reshape(-1, 3).sum(0, dtype=int).tolist())
    assert stored.pixel_square_sums == tuple((COLOR.astype(int) ** 2).reshape(-1, 3).sum(0).tolist())


def png(width, height, depth, kind, rows):
    """A PNG by hand: Pillow writes neither 16-bit color nor files that claim more pixels than they hold."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    )


PNG_GRAY, PNG_COLOR = 0, 2


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "must be an image, got an empty file"),
        (b"not an image", "must be an image that Pillow can read"),
        (encode(COLOR, "PNG")[:-30], "must be a whole image that decodes"),
        (encode(COLOR, "JPEG")[:-100], "must be a whole image that decodes"),
        (encode(COLOR, "PNG").replace(b"IDAT", b"IDAX"), "must be an image that Pillow can read"),
        (encode(GRAY, "GIF"), "must be one still image, got a GIF"),
        (encode(COLOR, "WEBP", save_all=True, append_images=[Image.fromarray(255 - COLOR)]), "must be one still image"),
        (encode(COLOR, "PNG", save_all=True, append_images=[Image.fromarray(255 - COLOR)]), "must be one still image"),
        (png(4, 4, 16, PNG_GRAY, bytes(4 * 9)), "must have 8 bits per channel, got 16 or more"),
        (png(4, 4, 16, PNG_COLOR, bytes(4 * 25)), "must have 8 bits per channel, got 16 or more"),
        (encode(Image.fromarray(GRAY.astype(np.uint16) * 256), "TIFF"), "must have 8 bits per channel"),
        (encode(Image.fromarray(GRAY.astype(np.float32)), "TIFF"), "must have 8 bits per channel"),
        (encode(Image.fromarray(COLOR).convert("LAB"), "TIFF"), "got color mode 'LAB'"),
        (png(20_000, 20_000, 8, PNG_GRAY, b""), "must have at most 89478485 pixels"),
        (png(10_000, 9_000, 8, PNG_GRAY, b""), "must have at most 89478485 pixels"),
    ],
)
def test_what_is_refused_names_the_rule(data, rule):
    with pytest.raises(errors.ConfigError, match=rule):
        images.read_image(data)


@pytest.mark.filterwarnings("ignore::UserWarning")  # packing ignores Pillow's too
def test_the_start_of_any_image_is_refused_and_never_raises_otherwise():
    for data in (encode(COLOR, "PNG"), encode(COLOR, "JPEG"), encode(COLOR, "TIFF"), encode(COLOR, "WEBP")):
        for length in range(0, len(data) - 40, 5):
            with pytest.raises(errors.ConfigError):
                images.read_image(data[:length])
