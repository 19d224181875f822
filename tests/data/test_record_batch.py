"""Opening frames: what was written comes back, and nothing that differs from it by a bit does."""

import numpy as np
import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.data import example, record_batch, tfrecord

RECORD = example.Record(bytes(range(64)), 3, "png", 10, 300, 3, "cats/größe.png")
FRAME, CRC = tfrecord.frame(example.encode_record(RECORD))


def test_a_frame_gives_its_record():
    assert record_batch.open_frame(memoryview(FRAME), 3, CRC) == RECORD


def test_a_frame_of_another_writer_gives_its_record():
    message = example.encode_record(RECORD) + b"\x78\x01"  # field 15, which no reader knows
    assert example.decode_view(memoryview(message)) is None
    framed, crc = tfrecord.frame(message)
    assert record_batch.open_frame(memoryview(framed), 3, crc) == RECORD


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
