"""Batches as rows of one image each, and back."""

import numpy as np
import pytest
import tensorflow as tf

from imagetrain_trainer.data import image_rows

MORE = {
    "windows": tf.TensorSpec((None, 4), tf.int32),
    "flips_x": tf.TensorSpec((None,), tf.bool),
    "global_size": tf.TensorSpec((), tf.float32),
}


def batch_of(size, number):
    return {
        "payloads": [f"{number}.{place}".encode() for place in range(size)],
        "labels": np.arange(size, dtype=np.int32),
        "record_ids": np.arange(size, dtype=np.int64) + 100 * number,
        "windows": np.arange(4 * size, dtype=np.int32).reshape(size, 4),
        "flips_x": np.arange(size) % 2 == 0,
        "global_size": np.float32(7 * number),
    }


@pytest.mark.parametrize("sizes", [[3, 3], [3, 2, 3], [1, 1, 1], [0], [2, 0, 0, 1], [0, 5]])
def test_batches_come_back_with_their_sizes_in_their_order(sizes):
    rows = image_rows.ImageRows(MORE, most_images=max(sizes))
    batches = [batch_of(size, number) for number, size in enumerate(sizes)]
    joined = (
        tf.data.Dataset.from_generator(lambda: map(rows.split, batches), output_signature=rows.signature)
        .unbatch()
        .map(lambda row: row, num_parallel_calls=4, deterministic=True)
        .batch(rows.places)
        .map(rows.join)
    )
    came = list(joined.as_numpy_iterator())
    assert len(came) == len(batches)
    for batch, item in zip(batches, came, strict=True):
        assert item.keys() == batch.keys()
        for key, value in batch.items():
            np.testing.assert_array_equal(item[key], np.array(value, object) if key == "payloads" else value)


def test_the_row_of_an_empty_batch_has_an_image_and_a_window_within_it():
    row = image_rows.ImageRows(MORE, most_images=0).split(batch_of(0, 1))
    (payload,), (window,) = row["payloads"], row["windows"]
    np.testing.assert_array_equal(window, [1, 1, 1, 1])
    assert tf.io.decode_image(payload).shape == (2, 2, 1)
    assert tf.io.decode_and_crop_jpeg(payload, window, channels=3).shape == (1, 1, 3)


def test_a_batch_of_more_images_than_was_said_is_refused():
    with pytest.raises(ValueError, match=r"a batch must have at most 2 images, got 3\."):
        image_rows.ImageRows(MORE, most_images=2).split(batch_of(3, 1))
