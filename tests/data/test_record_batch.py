"""Opening frames: what was written comes back, and nothing that differs from it by a bit does."""

import numpy as np
import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.data import example, record_batch, tfrecord

RECORD = example.Record(bytes(range(64)), 3, "png", 10, 300, 3, "cats/größe.png")
FRAME, CRC = tfrecord.frame(example.encode_record(RECORD))


def test_a_frame_gives_its_record():
    stored = record_batch.open_frame(memoryview(FRAME), 3, CRC)
    assert isinstance(stored, record_batch.StoredRecord)
    assert (stored.payload, stored.label, stored.parse()) == (RECORD.payload, 3, RECORD)


def test_a_record_that_lacks_a_feature_is_named_when_it_is_asked_for():
    message = example.encode_record(RECORD).replace(b"image/key", b"image/kex")
    framed, crc = tfrecord.frame(message)
    batch = record_batch.build(np.array([7]), [record_batch.open_frame(memoryview(framed), 3, crc)])
    assert batch.payloads == [RECORD.payload]
    with pytest.raises(errors.DataCorruptError, match=r"^record id 7 must have one bytes value in feature 'image/key'"):
        _ = batch.keys


@pytest.mark.parametrize("is_before", [True, False])
def test_a_frame_of_another_writer_gives_its_record(is_before):
    unknown, message = b"\x78\x01", example.encode_record(RECORD)  # field 15, which no reader knows
    message = unknown + message if is_before else message + unknown
    assert example.decode_view(memoryview(message)) is None
    framed, crc = tfrecord.frame(message)
    batch = record_batch.build(np.array([0]), [record_batch.open_frame(memoryview(framed), 3, crc)])
    assert batch.records == [RECORD]


def test_a_flip_of_any_bit_is_found():
    for position in range(len(FRAME) * 8):
        damaged = bytearray(FRAME)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(errors.DataCorruptError):
            record_batch.open_frame(memoryview(damaged), 3, CRC)


def test_a_cut_or_longer_frame_is_found():
    for length in range(len(FRAME)):
        with pytest.raises(errors.DataCorruptError):
            record_batch.open_frame(memoryview(FRAME[:length]), 3, CRC)
    with pytest.raises(errors.DataCorruptError):
        record_batch.open_frame(memoryview(FRAME + b"\0"), 3, CRC)


@pytest.mark.parametrize(("label", "crc"), [(4, CRC), (3, CRC ^ 1)])
def test_a_frame_that_its_index_does_not_name_is_found(label, crc):
    with pytest.raises(errors.DataCorruptError, match=r"^must "):
        record_batch.open_frame(memoryview(FRAME), label, crc)


def test_a_batch_has_its_records_in_their_order():
    other = RECORD._replace(payload=b"x", label=0, key="b")
    batch = record_batch.build(np.array([7, 5]), [RECORD, other])
    assert (batch.payloads, batch.keys) == ([RECORD.payload, b"x"], ["cats/größe.png", "b"])
    assert (batch.labels.tolist(), batch.widths.dtype) == ([3, 0], np.int32)


def test_a_batch_may_hold_no_record():
    batch = record_batch.build(np.array([], np.int64), [])
    assert (len(batch), batch.size_bytes, batch.labels.dtype, batch.keys) == (0, 0, np.int32, [])
