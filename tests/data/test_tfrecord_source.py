"""TFRecord sets as TensorFlow writes them, and damaged ones."""

import gzip
import pickle
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf

from imagetrain_trainer import errors
from imagetrain_trainer.data import example, tfrecord, tfrecord_source


def message(**features):
    built = tf.train.Example()
    for name, value in features.items():
        feature = built.features.feature[name.replace("__", "/")]
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, bytes):
                feature.bytes_list.value.append(item)
            elif isinstance(item, float):
                feature.float_list.value.append(item)
            else:
                feature.int64_list.value.append(item)
    return built.SerializeToString()


def record(image, label, text=None, **others):
    named = {"image__encoded": image, "image__class__label": label} | others
    return message(**named, **({} if text is None else {"image__class__text": text}))


def write(path, *messages, compression=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for data in messages:
            writer.write(data)
    return path


def test_records_are_listed_and_read(tmp_path):
    path = write(tmp_path / "set.tfrecord", record(b"A" * 300, 10), record(b"B", 9), record(b"", 10))
    source = tfrecord_source.TfrecordSource(str(path))
    entries = list(source.entries())
    assert [entry[:4] for entry in entries] == [
        (f"set.tfrecord[{n}]", c, None, None) for n, c in enumerate(["10", "9", "10"])
    ]
    assert source.class_names == ("9", "10")
    source = pickle.loads(pickle.dumps(source))
    assert [source.read(entry.locator) for entry in reversed(entries)] == [b"", b"B", b"A" * 300]
    assert source.describe(entries[0].locator) == f"record at offset 0 of {str(path)!r}"


def test_texts_name_classes_and_integers_order_them(tmp_path):
    write(tmp_path / "a.tfrecord", record(b"A", 7, b"cat"), record(b"B", 2, "größe".encode()), record(b"C", 7, b"cat"))
    source = tfrecord_source.TfrecordSource(str(tmp_path))
    assert [entry.class_name for entry in source.entries()] == ["cat", "größe", "cat"]
    assert source.class_names == ("größe", "cat")


def test_other_features_and_texts_as_labels(tmp_path):
    write(tmp_path / "a.tfrecord", message(jpeg=b"A", species=b"dog"), message(jpeg=b"B", species=b"cat"))
    features = tfrecord_source.Features(image="jpeg", label="species")
    source = tfrecord_source.TfrecordSource(str(tmp_path), None, features)
    assert [(source.read(e.locator), e.class_name) for e in source.entries()] == [(b"A", "dog"), (b"B", "cat")]
    assert source.class_names == ("cat", "dog")


def test_splits_come_from_the_files_names(tmp_path):
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001", "test.tfrecord-00000"):
        write(tmp_path / "deep" / name, record(b"A", 1))
    (tmp_path / "README").write_text("x")
    (tmp_path / ".hidden.tfrecord").write_text("x")
    source = tfrecord_source.TfrecordSource(str(tmp_path))
    assert [(entry.key, entry.given_split) for entry in source.entries()] == [
        ("deep/test.tfrecord-00000[0]", "test"),
        ("deep/train-00000-of-00002[0]", "train"),
        ("deep/train-00001-of-00002[0]", "train"),
        ("deep/validation-00000-of-00001[0]", "validation"),
    ]
    assert (source.ignored, source.ignored_count) == (("README",), 1)
    some = tfrecord_source.TfrecordSource(f"{tmp_path}/deep/t*-0000[0]*")
    assert [(entry.key, entry.given_split) for entry in some.entries()] == [
        ("test.tfrecord-00000[0]", "test"),
        ("train-00000-of-00002[0]", None),  # beside a test part alone it is divided
    ]


def test_raw_pixels_as_in_our_own_sets_are_read(tmp_path):
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    own = example.Record(pixels.tobytes(), 1, "raw", 2, 4, 3, "x[0]")
    write(tmp_path / "a.tfrecord", example.encode_record(own), example.encode_record(own._replace(height=3)))
    source = tfrecord_source.TfrecordSource(str(tmp_path))
    good, bad = source.entries()
    np.testing.assert_array_equal(source.read(good.locator), pixels)
    with pytest.raises(errors.ConfigError, match=r"record at offset \d+ of '.*' must have height x width x 1 or 3 byt"):
        source.read(bad.locator)


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"\xff\xff", "must be a serialized tf.train.Example"),
        (message(), "must have one image in feature 'image/encoded', got features . Pass --image-feature"),
        (message(image__encoded=b"A", y=1), "one label in feature 'image/class/label', got features image/encoded, y."),
        (record([b"A", b"B"], 1), "must have one image in feature"),
        (record(3, 1), "must have one image in feature"),
        (record(b"A", [1, 2]), "must have one label in feature"),
        (record(b"A", 1.0), "must have one label in feature"),
        (record(b"A", -1), "must have a label of 0 or more, got -1"),
        (record(b"A", b"\xff"), None),  # a text that is no UTF-8 is kept readable
        (record(b"A", b""), "must have a printable class"),
    ],
)
def test_a_record_without_image_or_label_is_named(tmp_path, data, rule):
    path = write(tmp_path / "set.tfrecord", record(b"first", 1), data)
    source = tfrecord_source.TfrecordSource(str(path))
    if rule is None:
        assert [entry.class_name for entry in source.entries()] == ["1", r"\xff"]
        return
    offset = len(record(b"first", 1)) + tfrecord.FRAME_BYTES
    with pytest.raises(errors.ConfigError, match=f"record at offset {offset} of '.*set.tfrecord' .*{rule}"):
        list(source.entries())


def test_every_flipped_byte_is_noticed_with_file_and_offset(tmp_path):
    path = write(tmp_path / "set.tfrecord", record(b"A", 1), record(b"B", 2))
    good = path.read_bytes()
    second = len(good) // 2
    for position in range(len(good)):
        path.write_bytes(good[:position] + bytes((good[position] ^ 0x10,)) + good[position + 1 :])
        offset = 0 if position < second else second
        with pytest.raises(errors.ConfigError, match=f"(record at offset {offset} of )?'.*set.tfrecord' must"):
            list(tfrecord_source.TfrecordSource(str(path)).entries())


@pytest.mark.parametrize("length", [1, 5, 11])
def test_a_file_that_is_cut_off_is_named(tmp_path, length):
    path = write(tmp_path / "set.tfrecord", record(b"A", 1))
    path.write_bytes(path.read_bytes() * 2)
    path.write_bytes(path.read_bytes()[:-length])
    with pytest.raises(errors.ConfigError, match=r"record at offset \d\d+ of '.*' is cut off by the end of the file"):
        list(tfrecord_source.TfrecordSource(str(path)).entries())


def test_an_enormous_length_is_refused_before_memory_is_spent(tmp_path):
    length = struct.pack("<Q", 1 << 60)
    header = length + struct.pack("<I", tfrecord.masked_crc32c(length))
    (tmp_path / "set.tfrecord").write_bytes(header + bytes(100))
    with pytest.raises(
        errors.ConfigError, match=r"record at offset 0 of .* must have at most 537919488 bytes, got 115292"
    ):
        list(tfrecord_source.TfrecordSource(str(tmp_path)).entries())


@pytest.mark.parametrize("kind", ["GZIP", "ZLIB"])
def test_compressed_files_are_refused_with_the_fix(tmp_path, kind):
    write(tmp_path / "a.tfrecord", *[record(b"A" * 100, 1)] * 5, compression=kind)
    fix = {"GZIP": "run gunzip on it first", "ZLIB": "write it without compression first"}[kind]
    with pytest.raises(
        errors.ConfigError, match=rf"'.*a.tfrecord' must be an uncompressed TFRecord file, got {kind}: {fix}"
    ):
        list(tfrecord_source.TfrecordSource(str(tmp_path)).entries())


@pytest.mark.parametrize("content", [b"x", b"no record at all", gzip.compress(b"")[:5], zlib.compress(b"")[:3]])
def test_what_is_no_tfrecord_file_is_named(tmp_path, content):
    (tmp_path / "a.tfrecord").write_bytes(content)
    with pytest.raises(errors.ConfigError, match=r"'.*a.tfrecord' (must|is cut off)"):
        list(tfrecord_source.TfrecordSource(str(tmp_path)).entries())


def test_a_set_without_files_is_named(tmp_path):
    for place in (tmp_path, tmp_path / "*.tfrecord"):
        with pytest.raises(
            errors.ConfigError, match=r"source must hold TFRecord files \(\*.tfrecord\*\), and '.*' holds n"
        ):
            tfrecord_source.TfrecordSource(str(place))


def test_a_record_that_changed_after_listing_is_named(tmp_path):
    path = write(tmp_path / "set.tfrecord", record(b"A", 1))
    source = tfrecord_source.TfrecordSource(str(path))
    (entry,) = source.entries()
    write(path, record(b"B", 1))
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    with pytest.raises(errors.ConfigError, match=r"record at offset 0 of '.*set.tfrecord' must match its CRC32C"):
        source.read(entry.locator)


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
def test_sets_on_s3_are_listed_and_read(tmp_path, s3_server, s3_bucket):
    bodies = [bytes([n]) * 400_000 for n in range(30)]  # 12 MB, more than one request
    path = write(tmp_path / "a", *[record(body, n) for n, body in enumerate(bodies)])
    for name in ("set/train-00000-of-00001", "set/test-00000-of-00001", "set/README.md"):
        s3_server.client().upload_file(str(path), s3_bucket, name)
    source = tfrecord_source.TfrecordSource(f"s3://{s3_bucket}/set/")
    entries = list(source.entries())
    assert len(entries) == 60
    assert {entry.given_split for entry in entries} == {"test", None}
    source = pickle.loads(pickle.dumps(source))
    assert source.read(entries[59].locator) == bodies[29]
    assert (source.name, source.ignored) == ("set", ("README.md",))
    (only,) = {entry.given_split for entry in tfrecord_source.TfrecordSource(f"s3://{s3_bucket}/set/tra*").entries()}
    assert only == "train"
