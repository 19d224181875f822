"""Example messages: ours, other writers', and bytes that are neither."""

import hypothesis
import pytest
from hypothesis import strategies as st

from imagetrain_trainer import errors
from imagetrain_trainer.data import example

int64s = st.integers(-(2**63), 2**63 - 1)
RECORD = example.Record(b"\x89PNG", 3, "png", 10, 300, 3, "cats/größe.png")


@hypothesis.given(
    st.builds(
        example.Record,
        payload=st.binary(max_size=300),
        label=int64s,
        format=st.sampled_from(["raw", "png", "jpeg"]),
        height=int64s,
        width=int64s,
        channels=int64s,
        key=st.text(),
    )
)
def test_any_record_is_read_back(record):
    data = example.encode_record(record)
    assert example.decode_record(data) == record
    assert example.decode_view(memoryview(data)) == record


@hypothesis.given(st.permutations(range(7)))
def test_features_in_any_order_are_read(order):
    data = example.encode_record(RECORD)
    ((_, first, last),) = example._fields(data, 0, len(data))
    entries = [data[start - 2 : stop] for _, start, stop in example._fields(data, first, last)]
    shuffled = data[:first] + b"".join(entries[number] for number in order)
    assert example.decode_record(shuffled) == RECORD


def test_a_file_name_that_is_not_utf8_is_read_back():
    record = RECORD._replace(key="bad\udcff.png")
    assert example.decode_record(example.encode_record(record)).key == "bad\udcff.png"


@hypothesis.given(st.binary(max_size=80))
def test_any_bytes_are_a_message_or_corrupt(data):
    try:
        example.decode_features(data)
    except errors.DataCorruptError:
        return


def test_any_cut_is_corrupt_or_incomplete():
    data = example.encode_record(RECORD)
    for length in range(len(data)):
        with pytest.raises(errors.DataCorruptError):
            example.decode_record(data[:length])


@pytest.mark.parametrize(
    ("message", "features"),
    [
        ("0a0d0a0b0a01611206 1a04 0a020105", {"a": [1, 5]}),  # packed integers
        ("0a0d0a0b0a01611206 1a04 08010805", {"a": [1, 5]}),  # the same, not packed
        ("0a150a130a0161120e 1a0c 0a0a 80ffffffffffffffff01", {"a": [-128]}),
        ("0a0f0a0d0a01611208 1206 0a040000c03f", {"a": [1.5]}),  # packed floats
        ("0a100a0e0a01611209 1207 0d0000c03f1001", {"a": [1.5]}),  # not packed, with an unknown field behind
        ("0a070a050a01611200", {"a": []}),  # a feature of no kind
        ("1a0161", {}),  # an unknown field alone
        ("", {}),
    ],
)
def test_what_other_writers_may_write_is_read(message, features):
    assert example.decode_features(bytes.fromhex(message.replace(" ", ""))) == features


@pytest.mark.parametrize(
    ("name", "replacement", "rule"),
    [
        (b"image/key", b"image/kex", "must have one bytes value in feature 'image/key'"),
        (b"image/width", b"image/wodth", "must have one integer value in feature 'image/width'"),
    ],
)
def test_a_missing_feature_is_named(name, replacement, rule):
    data = example.encode_record(RECORD).replace(name, replacement)
    with pytest.raises(errors.DataCorruptError, match=rule):
        example.decode_record(data)
