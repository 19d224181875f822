"""How images are stored: kept where that is asked for, and otherwise the pixels and facts a reader will find."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from imagetrain_trainer import errors
from imagetrain_trainer.data import encoding, images, pipeline

COLOR = np.random.default_rng(3).integers(0, 256, (30, 40, 3), np.uint8)
GRAY = COLOR[..., :1]
KEEP = encoding.EncodingOptions()
JPEG = encoding.EncodingOptions(kind="jpeg")
PNG = encoding.EncodingOptions(kind="png")
RAW = encoding.EncodingOptions(kind="raw", size=(12, 10))


def write(pixels, kind, **options):
    out = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(out, kind, **options)
    return out.getvalue()


def read(stored):
    if stored.format == "raw":
        return np.frombuffer(stored.payload, np.uint8).reshape(stored.height, stored.width, stored.channels)
    with Image.open(io.BytesIO(stored.payload)) as image:
        assert image.format == stored.format.upper()
        return np.asarray(image).reshape(image.height, image.width, -1)


@pytest.mark.parametrize("options", [KEEP, JPEG, PNG, RAW, encoding.EncodingOptions(kind="jpeg", longest_side=16)])
@pytest.mark.parametrize("data", [write(COLOR, "JPEG"), write(COLOR, "PNG"), write(GRAY, "WEBP"), COLOR, GRAY])
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_the_facts_are_those_of_what_a_reader_decodes(data, options, channels):
    stored = encoding.encode(data, options, channels).stored
    pixels = read(stored)
    assert pixels.shape == (stored.height, stored.width, stored.channels)
    assert stored.pixel_sums == tuple(pixels.sum((0, 1), np.int64).tolist())
    assert stored.pixel_square_sums == tuple((pixels.astype(np.int64) ** 2).sum((0, 1)).tolist())
    if channels == 1:
        assert stored.channels == 1
    if options.kind != "keep":
        assert stored.format == options.kind


@pytest.mark.parametrize(
    ("data", "options", "change"),
    [
        (write(COLOR, "JPEG"), KEEP, ""),
        (write(COLOR, "PNG"), PNG, ""),
        (COLOR, KEEP, ""),
        (write(COLOR, "JPEG"), JPEG, "jpeg encoded again"),
        (write(COLOR, "PNG"), JPEG, "png to jpeg"),
        (write(COLOR, "WEBP"), JPEG, "webp to jpeg"),
        (write(COLOR, "WEBP"), KEEP, "webp to png"),
        (write(COLOR, "JPEG"), PNG, "jpeg to png"),
        (write(COLOR, "JPEG"), RAW, "jpeg to raw, scaled"),
        (COLOR, RAW, "scaled"),
        (write(COLOR, "PNG"), encoding.EncodingOptions(kind="png", longest_side=20), "scaled"),
        (write(COLOR, "PNG"), encoding.EncodingOptions(kind="png", longest_side=40), ""),
    ],
)
def test_each_change_is_named(data, options, change):
    stored = encoding.encode(data, options).stored
    assert stored.change == change
    if not change:
        assert stored.payload == (data if isinstance(data, bytes) else data.tobytes())


@pytest.mark.parametrize(
    ("shape", "longest_side", "expected"),
    [((30, 40), 20, (15, 20)), ((40, 30), 20, (20, 15)), ((30, 40), 400, (30, 40)), ((3, 400), 20, (1, 20))],
)
def test_the_longest_side_bounds_the_size_and_enlarges_nothing(shape, longest_side, expected):
    options = encoding.EncodingOptions(kind="jpeg", longest_side=longest_side)
    stored = encoding.encode(np.zeros((*shape, 3), np.uint8), options).stored
    assert (stored.height, stored.width) == expected


def test_quality_tells_in_bytes():
    sizes = [
        len(encoding.encode(COLOR, encoding.EncodingOptions(kind="jpeg", quality=quality)).stored.payload)
        for quality in (30, 90, 100)
    ]
    assert sizes == sorted(sizes)
    assert len(encoding.encode(COLOR, JPEG).stored.payload) == sizes[1]


@pytest.mark.parametrize("size", [(12, 10), (15, 20), (60, 80), (30, 7), (224, 224)])
def test_resizing_is_that_of_the_input_pipeline_to_within_one(size):
    ours = encoding.resize(COLOR, *size).astype(int)
    theirs = pipeline.resize_images(tf.constant(COLOR), *size).numpy().astype(int)
    assert np.abs(ours - theirs).max() <= 1
    assert (ours != theirs).mean() < 0.01


def test_gray_is_repeated_where_raw_pixels_must_be_alike():
    pixels = read(encoding.encode(GRAY, KEEP, channels=3).stored)
    assert np.array_equal(pixels, np.repeat(GRAY, 3, axis=2))


def test_equal_pixels_have_one_digest_whatever_file_they_came_in():
    rotated = write(np.rot90(COLOR, 1), "PNG", exif=make_exif(6))
    digests = {
        encoding.encode(data, options).digest
        for data in (COLOR, write(COLOR, "PNG"), write(COLOR, "BMP"), write(COLOR, "WEBP", lossless=True), rotated)
        for options in (KEEP, RAW, JPEG)
    }
    assert len(digests) == 1
    assert encoding.encode(COLOR.reshape(40, 30, 3), KEEP).digest not in digests
    assert encoding.encode(np.where(COLOR[0, 0, 0] == COLOR, 9, COLOR).astype(np.uint8), KEEP).digest not in digests


def make_exif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "must be an image, got an empty file"),
        (np.zeros((4, 4, 3), np.float32), r"must be uint8 pixels of shape \(height, width, 1 or 3\), got float32"),
        (np.zeros((4, 4, 2), np.uint8), "must be uint8 pixels"),
        (np.zeros((4, 0, 3), np.uint8), "must be uint8 pixels"),
        (np.zeros((1, 70_000, 1), np.uint8), "must have at most 65500 pixels a side to become a JPEG, got 1 x 70000"),
    ],
)
def test_what_cannot_be_stored_is_refused(data, rule):
    with pytest.raises(errors.ConfigError, match=rule):
        encoding.encode(data, JPEG)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"kind": "gif"}, "encoding must be one of keep, jpeg, png, raw, got 'gif'"),
        ({"kind": "raw"}, "size must be given"),
        ({"quality": 90}, "quality must be left out unless encoding is jpeg, got 90 with 'keep'"),
        ({"kind": "raw", "size": (1, 1), "longest_side": 9}, "longest side must be left out unless .* jpeg or png"),
        ({"kind": "jpeg", "quality": 101}, "quality must be 1 to 100, got 101"),
        ({"kind": "png", "longest_side": 0}, "longest side must be 1 to 65500 pixels"),
        ({"kind": "raw", "size": (0, 5)}, "size must be 1 to 65500 pixels"),
    ],
)
def test_an_option_that_breaks_a_rule_is_named(options, rule):
    with pytest.raises(errors.ConfigError, match=rule):
        encoding.EncodingOptions(**options)


def test_the_options_are_told_as_they_act():
    assert JPEG.as_json() == {"encoding": "jpeg", "quality": 90}
    assert RAW.as_json() == {"encoding": "raw", "size": [12, 10]}
    assert images.DEFAULT_POLICY.alpha == "white"
