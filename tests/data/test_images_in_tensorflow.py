"""TensorFlow decodes whatever packing keeps, to the same pixels as packing saw."""

import random

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import odd_images
from imagetrain_trainer import errors
from imagetrain_trainer.data import images

RANDOM = np.random.default_rng(11)
COLOR = RANDOM.integers(0, 256, (24, 31, 3), np.uint8)
GRAY = COLOR[..., 0].copy()
SMOOTH = np.asarray(Image.fromarray(COLOR).resize((64, 48), Image.Resampling.BICUBIC))
encode, png = odd_images.encode, odd_images.png


def bits(depth):
    """A gray PNG of fewer bits a pixel."""
    values = RANDOM.integers(0, 1 << depth, (8, 16), np.uint8)
    packed = np.packbits(np.unpackbits(values[..., None], axis=2)[..., 8 - depth :].reshape(8, -1), axis=1)
    return png(16, 8, depth, odd_images.PNG_GRAY, b"".join(b"\0" + row.tobytes() for row in packed))


FILES = {
    "gray jpeg": encode(GRAY, "JPEG"),
    "color jpeg": encode(SMOOTH, "JPEG", quality=95),
    "progressive jpeg": encode(SMOOTH, "JPEG", progressive=True),
    "subsampled jpeg": encode(SMOOTH, "JPEG", subsampling=2),
    "jpeg with restarts": encode(SMOOTH, "JPEG", restart_marker_rows=1),
    "jpeg with an unpaired end": encode(SMOOTH, "JPEG") + b"trailing",
    "rgb jpeg": encode(SMOOTH, "JPEG", keep_rgb=True),
    "jpeg with a profile": encode(SMOOTH, "JPEG", icc_profile=RANDOM.integers(0, 256, 300_000, np.uint8).tobytes()),
    "jpeg with exif": odd_images.with_segment(encode(SMOOTH, "JPEG"), 0xE1, b"Exif\0\0" + bytes(65_000)),
    "two pictures": encode(SMOOTH, "MPO", save_all=True, append_images=[Image.fromarray(COLOR)]),
    "cmyk jpeg": encode(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG"),
    "lossless jpeg": odd_images.lossless_jpeg(16, 8),
    "gray png": encode(GRAY, "PNG"),
    "color png": encode(COLOR, "PNG"),
    "1 bit png": bits(1),
    "2 bit png": bits(2),
    "4 bit png": bits(4),
    "palette png": encode(Image.fromarray(COLOR).quantize(16), "PNG"),
    "png with gamma": odd_images.with_chunk(encode(COLOR, "PNG"), b"gAMA", (45455).to_bytes(4, "big")),
    "png with an unknown chunk": odd_images.with_chunk(encode(COLOR, "PNG"), b"abCd", bytes(9)),
    "png without an end": encode(COLOR, "PNG")[:-12],
    "png with a broken profile": odd_images.with_chunk(encode(COLOR, "PNG"), b"iCCP", b"icc\0\0no stream"),
    "png with a palette for poor screens": odd_images.with_chunk(encode(COLOR, "PNG"), b"PLTE", bytes(range(48))),
    "png with broken primaries": odd_images.with_chunk(encode(COLOR, "PNG"), b"cHRM", bytes(32)),
    "png with two gammas": odd_images.with_chunk(
        odd_images.with_chunk(encode(COLOR, "PNG"), b"gAMA", bytes(4)), b"gAMA", bytes(4)
    ),
    "deep png": png(4, 4, 16, odd_images.PNG_GRAY, b"".join(bytes((0, *range(row, row + 8))) for row in range(4))),
    "webp": encode(COLOR, "WEBP"),
    "gif": encode(GRAY, "GIF"),
    "bmp": encode(COLOR, "BMP"),
    "tiff": encode(COLOR, "TIFF"),
    "avif": encode(COLOR, "AVIF"),
}
POLICY = images.ImagePolicy(sixteen_bit="scale", animated="first")


def decode(stored):
    return tf.io.decode_image(stored.payload, channels=stored.channels, expand_animations=False).numpy()


@pytest.mark.parametrize("name", FILES)
def test_tensorflow_sees_the_pixels_that_packing_saw(name):
    stored = images.read_image(FILES[name], policy=POLICY)
    pixels = decode(stored)
    assert pixels.shape == (stored.height, stored.width, stored.channels)
    ours = images.decode_image(FILES[name], policy=POLICY).pixels
    if stored.format == "png":
        np.testing.assert_array_equal(pixels, ours)
    else:  # two JPEG decoders round differently
        assert np.abs(pixels.astype(int) - ours).mean() < 3


@pytest.mark.filterwarnings("ignore")  # packing ignores Pillow's too
@pytest.mark.parametrize(
    "kind", ["gray jpeg", "color jpeg", "progressive jpeg", "subsampled jpeg", "gray png", "color png"]
)
def test_tensorflow_decodes_whatever_is_kept_of_damaged_files(kind):
    generator, data, kept = random.Random(kind), FILES[kind], 0
    for _ in range(300):
        broken = bytearray(data)
        broken[generator.randrange(2, len(data))] = generator.randrange(256)
        try:
            stored = images.read_image(bytes(broken), policy=POLICY)
        except errors.ConfigError:
            continue
        kept += 1
        assert decode(stored).shape == (stored.height, stored.width, stored.channels)
    assert kept > (0 if "png" in kind else 50)
