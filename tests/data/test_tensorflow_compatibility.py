"""Plain TensorFlow reads what we write, and we read what it writes."""

import numpy as np
import pytest
import tensorflow as tf

from imagetrain_trainer.data import dataset, example, reader, tfrecord

FEATURES = {
    "image/encoded": tf.io.FixedLenFeature((), tf.string),
    "image/format": tf.io.FixedLenFeature((), tf.string),
    "image/height": tf.io.FixedLenFeature((), tf.int64),
    "image/width": tf.io.FixedLenFeature((), tf.int64),
    "image/channels": tf.io.FixedLenFeature((), tf.int64),
    "image/class/label": tf.io.FixedLenFeature((), tf.int64),
    "image/key": tf.io.FixedLenFeature((), tf.string),
}


@pytest.mark.parametrize("split", dataset.SPLITS)
def test_tensorflow_reads_our_shards(packed, arrays, split):
    shards = dataset.load_dataset(packed).splits[split].shards
    files = [str(packed.root / shard.key) for shard in shards]
    serialized = tf.data.TFRecordDataset(files).batch(1000).get_single_element()
    parsed = {name: value.numpy() for name, value in tf.io.parse_example(serialized, FEATURES).items()}
    positions = [int(key[2:-1]) for key in parsed["image/key"]]  # b"x[12]"
    np.testing.assert_array_equal(parsed["image/class/label"], arrays["y"][positions])
    assert list(parsed["image/encoded"]) == [arrays["x"][position].tobytes() for position in positions]
    for name, value in (("height", 5), ("width", 4), ("channels", 1), ("format", b"raw")):
        assert set(parsed[f"image/{name}"]) == {value}
    with reader.DatasetReader(packed, split) as ours:
        assert ours.read(np.arange(ours.records)).keys == [key.decode() for key in parsed["image/key"]]


def test_we_read_what_tensorflow_writes(tmp_path):
    values = {
        "image/encoded": b"\x89PNG",
        "image/format": b"png",
        "image/height": 10,
        "image/width": 300,
        "image/channels": 3,
        "image/class/label": 2,
        "image/key": b"cats/1.png",
    }
    message = tf.train.Example()
    for name, value in values.items():
        feature = message.features.feature[name]
        (feature.bytes_list if isinstance(value, bytes) else feature.int64_list).value.append(value)
    path = str(tmp_path / "shard.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(message.SerializeToString())
        writer.write(message.SerializeToString())
    expected = example.Record(b"\x89PNG", 2, "png", 10, 300, 3, "cats/1.png")
    shard = (tmp_path / "shard.tfrecord").read_bytes()
    assert [example.decode_record(data) for _, data in tfrecord.iterate(shard)] == [expected, expected]


def test_our_message_is_the_one_that_tensorflow_parses():
    record = example.Record(b"\x00\xff", -1, "raw", 2**40, 1, 1, "größe")
    message = tf.train.Example.FromString(example.encode_record(record))
    assert message.features.feature["image/class/label"].int64_list.value == [-1]
    assert message.features.feature["image/height"].int64_list.value == [2**40]
    assert message.features.feature["image/key"].bytes_list.value == ["größe".encode()]
    assert example.decode_record(message.SerializeToString()) == record


def test_all_kinds_of_features_are_read():
    message = tf.train.Example()
    message.features.feature["floats"].float_list.value.extend([1.5, -2.0])
    message.features.feature["ints"].int64_list.value.extend([-1, 0, 2**62])
    message.features.feature["texts"].bytes_list.value.extend([b"a", b""])
    message.features.feature["none"].SetInParent()
    assert example.decode_features(message.SerializeToString()) == {
        "floats": [1.5, -2.0],
        "ints": [-1, 0, 2**62],
        "texts": [b"a", b""],
        "none": [],
    }
