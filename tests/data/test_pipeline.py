"""Decoding: the right pixels, in the right order, with errors that name the record."""

import dataclasses
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset, example, pipeline, record_batch

RANDOM = np.random.default_rng(7)


@pytest.fixture(params=["batches", "images"], autouse=True)
def way(request, monkeypatch):
    """Every test is made of both ways: decoding in batches, as small images are, and one by one, as large ones are."""
    monkeypatch.setattr(pipeline, "_STREAMED_AREA", 0 if request.param == "images" else 1 << 40)


def facts(encoding, channels, height=None, width=None):
    return dataset.ImageFacts(
        encoding=encoding,
        channels=channels,
        height=height,
        width=width,
        min_height=1,
        max_height=64,
        min_width=1,
        max_width=64,
    )


def batch_of(payloads, kind, first_id=0, height=0, width=0):
    return record_batch.build(
        np.arange(first_id, first_id + len(payloads)),
        [
            example.Record(payload, label, kind, height, width, 0, f"image-{first_id + label}")
            for label, payload in enumerate(payloads)
        ],
    )


def encoded(pixels, kind="PNG", **options):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def smooth(height, width, channels):
    coarse = RANDOM.integers(0, 256, (4, 4, channels), np.uint8)
    image = Image.fromarray(coarse[..., 0] if channels == 1 else coarse).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    return np.asarray(image)


def decode(batches, image, shape):
    return [
        {name: tensor.numpy() for name, tensor in item.items()}
        for item in pipeline.DecodePipeline(batches, image, shape, most_images=8)
    ]


def test_raw_batches_of_any_size_keep_pixels_labels_and_ids():
    arrays = [RANDOM.integers(0, 256, (count, 5, 4, 3), np.uint8) for count in (3, 0, 2)]
    batches = [batch_of([pixels.tobytes() for pixels in array], "raw", 10 * i) for i, array in enumerate(arrays)]
    decoded = decode(batches, facts("raw", 3, 5, 4), (5, 4, 3))
    for item, array, batch in zip(decoded, arrays, batches, strict=True):
        np.testing.assert_array_equal(item["images"], array)
        np.testing.assert_array_equal(item["labels"], batch.labels)
        np.testing.assert_array_equal(item["record_ids"], batch.record_ids)
        assert [item[name].dtype for name in ("images", "labels", "record_ids")] == [np.uint8, np.int32, np.int64]


def test_payloads_keep_their_zeros_at_the_end():
    """numpy's byte strings would drop them."""
    pixels = np.zeros((2, 2, 2, 1), np.uint8)
    pixels[:, 0, 0] = 7
    (item,) = decode([batch_of([image.tobytes() for image in pixels], "raw")], facts("raw", 1, 2, 2), (2, 2, 1))
    np.testing.assert_array_equal(item["images"], pixels)
    good = encoded(smooth(8, 8, 3))
    (item,) = decode([batch_of([good + bytes(5), good], "png")], facts("png", 3), (8, 8, 3))
    np.testing.assert_array_equal(item["images"][0], item["images"][1])


def test_an_empty_batch_of_files_is_an_empty_batch_of_images():
    (item,) = decode([batch_of([], "png")], facts("png", 3), (8, 6, 3))
    assert item["images"].shape == (0, 8, 6, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_and_jpeg_of_the_input_shape_give_the_pixels_that_pillow_gives(channels):
    pixels = smooth(16, 24, channels)
    files = [
        encoded(pixels),
        encoded(pixels, "JPEG", quality=90),
        encoded(pixels, "JPEG", quality=90, progressive=True),
    ]
    (item,) = decode([batch_of(files, "mixed")], facts("mixed", channels), (16, 24, channels))
    for file, image in zip(files, item["images"], strict=True):
        expected = np.asarray(Image.open(io.BytesIO(file))).reshape(image.shape).astype(int)
        assert np.abs(image.astype(int) - expected).max() <= 1


def test_gray_is_repeated_for_three_channels():
    pixels = smooth(8, 8, 1)
    raw = batch_of([pixels.tobytes()], "raw")
    (from_raw,) = decode([raw], facts("raw", 1, 8, 8), (8, 8, 3))
    (from_png,) = decode([batch_of([encoded(pixels)], "png")], facts("png", 1), (8, 8, 3))
    np.testing.assert_array_equal(from_raw["images"], np.repeat(pixels[None, ..., None], 3, -1))
    np.testing.assert_array_equal(from_png["images"], from_raw["images"])


def test_images_of_many_sizes_are_resized_to_the_input_shape():
    images = [smooth(height, width, 3) for height, width in ((64, 48), (10, 10), (32, 32))]
    (item,) = decode([batch_of([encoded(pixels) for pixels in images], "png")], facts("png", 3), (32, 32, 3))
    np.testing.assert_array_equal(item["images"][2], images[2])
    for pixels, image in zip(images, item["images"], strict=True):
        expected = np.asarray(Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(image.astype(int) - expected).max() <= 2


def test_raw_images_are_resized_to_the_input_shape():
    pixels = smooth(8, 8, 1)
    (item,) = decode([batch_of([pixels.tobytes()], "raw")], facts("raw", 1, 8, 8), (16, 16, 1))
    expected = np.asarray(Image.fromarray(pixels).resize((16, 16), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(item["images"][0, ..., 0].astype(int) - expected).max() <= 1


WINDOWS = np.array([[0, 0, 40, 50], [3, 5, 20, 20], [10, 7, 9, 31], [39, 49, 1, 1]], np.int32)  # of 40 x 50 pixels
FLIPS = np.array([[False, True], [True, False], [True, True], [False, False]])

FLIPPED = {"flips_y": FLIPS[:, 0], "flips_x": FLIPS[:, 1]}


def changed(payloads, kind, image, shape, **companions):
    signature = {
        name: tf.TensorSpec((None, *array.shape[1:]), tf.as_dtype(array.dtype)) for name, array in companions.items()
    }
    (item,) = pipeline.DecodePipeline(
        [batch_of(payloads, kind)],
        image,
        shape,
        most_images=len(payloads),
        companions=lambda _: companions,
        signature=signature,
    )
    return {name: tensor.numpy() for name, tensor in item.items()}


def stored(pixels, kind):
    """Return a payload, and the pixels that Pillow finds in it."""
    if kind == "raw":
        return pixels.tobytes(), pixels
    payload = encoded(pixels, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return payload, np.asarray(Image.open(io.BytesIO(payload)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "raw"])
@pytest.mark.parametrize("channels", [1, 3])
def test_windows_are_cut_resized_and_mirrored(kind, channels):
    payloads, images = zip(*(stored(smooth(40, 50, channels), kind) for _ in WINDOWS), strict=True)
    image = facts("raw", channels, 40, 50) if kind == "raw" else facts("mixed", channels)
    item = changed(list(payloads), kind.lower(), image, (24, 20, channels), windows=WINDOWS, **FLIPPED)
    assert sorted(item) == ["images", "labels", "record_ids"]
    for pixels, (top, left, height, width), flips, got in zip(images, WINDOWS, FLIPS, item["images"], strict=True):
        window = pixels[top : top + height, left : left + width].reshape(height, width, channels)
        resized = np.rint(tf.image.resize(window, (24, 20))).astype(int)
        expected = np.flip(resized, [axis for axis in (0, 1) if flips[axis]])
        # A JPEG's colours are cut before they are brought to full size, so that those beyond the edge are not seen.
        tolerance = 12 if kind == "JPEG" and channels == 3 else 1
        assert np.abs(got.astype(int) - expected).max() <= tolerance
        assert np.abs(got.astype(int) - expected).mean() <= 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "raw"])
@pytest.mark.parametrize("size", [130, 260, 520])
def test_a_window_far_larger_than_the_input_shape_is_not_sampled_with_gaps(kind, size):
    """Stripes one pixel wide become gray; taken from every second or eighth pixel they would be black or white."""
    pixels = np.zeros((size, size, 1), np.uint8)
    pixels[:, ::2] = 255
    payload, _ = stored(pixels[..., 0], kind)
    image = facts("raw", 1, size, size) if kind == "raw" else facts(kind.lower(), 1)
    image = dataclasses.replace(image, max_height=size, max_width=size)
    window = np.array([[1, 1, size - 1, size - 1]], np.int32)
    item = changed([payload], kind.lower(), image, (64, 64, 1), windows=window)
    assert np.abs(item["images"][0, 1:-1, 1:-1].astype(int) - 127).max() <= 6


def test_windows_of_many_sizes_are_reduced_each_by_what_fits():
    pixels = smooth(600, 600, 3)
    windows = np.array([[8, 16, side, side] for side in (64, 127, 128, 255, 256, 511, 512, 580)], np.int32)
    payload = encoded(pixels, "JPEG", quality=95)
    image = dataclasses.replace(facts("jpeg", 3), max_height=600, max_width=600)
    item = changed([payload] * len(windows), "jpeg", image, (64, 64, 3), windows=windows)
    for (top, left, height, width), got in zip(windows, item["images"], strict=True):
        window = pixels[top : top + height, left : left + width]
        expected = np.rint(tf.image.resize(window, (64, 64), antialias=True)).astype(int)
        assert np.abs(got.astype(int) - expected).mean() <= 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_window_of_the_whole_image_at_its_size_keeps_every_pixel(kind):
    payload, _ = stored(smooth(40, 50, 3), kind)
    whole = np.array([[0, 0, 40, 50]], np.int32)
    item = changed([payload], kind.lower(), facts("mixed", 3), (40, 50, 3), windows=whole)
    np.testing.assert_array_equal(item["images"][0], pipeline.decode_image(payload, 3, 40, 50).numpy())


@pytest.mark.parametrize("kind", ["JPEG", "raw"])
def test_mirroring_alone_moves_pixels_and_changes_none(kind):
    payloads, _ = zip(*(stored(smooth(40, 50, 3), kind) for _ in FLIPS), strict=True)
    image = facts("raw", 3, 40, 50) if kind == "raw" else facts("jpeg", 3)
    (plain,) = decode([batch_of(list(payloads), kind.lower())], image, (32, 32, 3))
    item = changed(list(payloads), kind.lower(), image, (32, 32, 3), **FLIPPED)
    for before, flips, after in zip(plain["images"], FLIPS, item["images"], strict=True):
        np.testing.assert_array_equal(after, np.flip(before, [axis for axis in (0, 1) if flips[axis]]))


@pytest.mark.parametrize("kind", ["raw", "png"])
def test_an_empty_batch_has_no_windows_and_stays_empty(kind):
    image = facts("raw", 3, 40, 50) if kind == "raw" else facts("png", 3)
    item = changed([], kind, image, (24, 20, 3), windows=WINDOWS[:0], flips_x=FLIPS[:0, 1])
    assert item["images"].shape == (0, 24, 20, 3)


def test_gray_raw_windows_are_repeated_for_three_channels():
    payload, pixels = stored(smooth(40, 50, 1), "raw")
    item = changed([payload], "raw", facts("raw", 1, 40, 50), (20, 20, 3), windows=WINDOWS[1:2])
    np.testing.assert_array_equal(item["images"][0], np.repeat(pixels[3:23, 5:25, None], 3, -1))


def test_what_goes_along_with_a_batch_comes_out_beside_it():
    item = changed([encoded(smooth(8, 8, 1))], "png", facts("png", 1), (8, 8, 1), weights=np.array([0.5], np.float32))
    np.testing.assert_array_equal(item["weights"], [0.5])


def test_an_image_of_another_size_than_its_record_says_is_named():
    """A window of the size that was said does not fit into it."""
    batch = batch_of([encoded(smooth(8, 8, 3), "JPEG")], "jpeg", height=40, width=50)
    decoder = pipeline.DecodePipeline(
        [batch],
        facts("jpeg", 3),
        (8, 8, 3),
        most_images=1,
        companions=lambda _: {"windows": WINDOWS[:1]},
        signature={"windows": tf.TensorSpec((None, 4), tf.int32)},
    )
    with pytest.raises(errors.DataCorruptError, match=r"'image-0' \(record id 0\) must be an image of 40 x 50 pixels"):
        list(decoder)


def test_bytes_that_do_not_decode_name_the_record():
    good = encoded(smooth(8, 8, 3))
    batches = [batch_of([good, good], "png"), batch_of([good, b"\x89PNG not an image"], "png", 40)]
    with pytest.raises(
        errors.DataCorruptError, match=r"record 'image-41' \(record id 41\) must be an image that decodes"
    ):
        decode(batches, facts("png", 3), (8, 8, 3))


def test_raw_bytes_of_the_wrong_length_name_the_record():
    with pytest.raises(errors.DataCorruptError, match="record 'image-0' must be 64 raw bytes, got 63"):
        decode([batch_of([b"1" * 63], "raw")], facts("raw", 1, 8, 8), (8, 8, 1))


def test_an_error_of_the_reader_keeps_its_type():
    def fail():
        yield batch_of([b"1" * 64], "raw")
        raise errors.StorageUnavailableError("s3://data/x did not answer")

    decoder = pipeline.DecodePipeline(fail(), facts("raw", 1, 8, 8), (8, 8, 1), most_images=1)
    with pytest.raises(errors.StorageUnavailableError, match="s3://data/x did not answer"):
        list(decoder)


def test_explain_leaves_foreign_errors_alone():
    decoder = pipeline.DecodePipeline(
        [batch_of([encoded(smooth(8, 8, 1))], "png")], facts("png", 1), (8, 8, 1), most_images=1
    )
    list(decoder)
    error = tf.errors.UnavailableError(None, None, "another worker is gone")
    assert decoder.explain(error) is error


@pytest.mark.parametrize(
    ("shape", "rule"),
    [
        ((8, 8, 1), r"must have 3 channels, as the data set's images have, got \[8, 8, 1\]"),
        ((8, 8), r"must be \[height, width, 1 or 3\]"),
        ((8, 8, 4), r"must be \[height, width, 1 or 3\]"),
        ((0, 8, 3), r"must be \[height, width, 1 or 3\]"),
    ],
)
def test_an_input_shape_that_the_images_cannot_take_is_refused(shape, rule):
    with pytest.raises(errors.ConfigError, match=rule):
        pipeline.DecodePipeline([], facts("png", 3), shape, most_images=1)
