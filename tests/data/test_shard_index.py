"""The byte index: fixed layout, and every damage found."""

import struct

import numpy as np
import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.data import shard_index, tfrecord

ENTRIES = np.array([(0, 20, 1, 7), (20, 30, 0, 2**32 - 1)], shard_index.ENTRY)


def test_the_layout_is_the_documented_one():
    data = shard_index.encode(ENTRIES)
    body = b"IMGTRIDX" + struct.pack("<IIQ", 1, 20, 2)
    body += struct.pack("<QIiI", 0, 20, 1, 7) + struct.pack("<QIiI", 20, 30, 0, 2**32 - 1)
    assert data == body + struct.pack("<I", tfrecord.crc32c(body))


@pytest.mark.parametrize("count", [0, 2])
def test_what_is_encoded_is_read_back(count):
    decoded = shard_index.decode(shard_index.encode(ENTRIES[:count]))
    assert decoded.dtype == shard_index.ENTRY
    assert decoded.tolist() == ENTRIES[:count].tolist()


def test_longer_entries_of_a_later_writer_are_read():
    body = b"IMGTRIDX" + struct.pack("<IIQ", 1, 24, 1) + struct.pack("<QIiIf", 0, 20, 1, 7, 0.5)
    decoded = shard_index.decode(body + struct.pack("<I", tfrecord.crc32c(body)))
    assert decoded.tolist() == [(0, 20, 1, 7)]


def test_every_flipped_byte_and_every_cut_is_found():
    data = shard_index.encode(ENTRIES)
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x40
        for bad in (bytes(damaged), data[:position]):
            with pytest.raises(errors.DataCorruptError):
                shard_index.decode(bad)


def test_a_truncated_index_says_so():
    with pytest.raises(errors.DataCorruptError, match="must have 68 bytes for its 2 records, got 60: truncated"):
        shard_index.decode(shard_index.encode(ENTRIES)[:-8])


def test_another_version_is_refused():
    body = b"IMGTRIDX" + struct.pack("<IIQ", 2, 20, 0)
    with pytest.raises(errors.DataCorruptError, match="must be an index of version 1, got 2"):
        shard_index.decode(body + struct.pack("<I", tfrecord.crc32c(body)))


@pytest.mark.parametrize("size", [49, 51])
def test_entries_that_do_not_cover_the_shard_are_refused(size):
    shard_index.check_contiguous(ENTRIES, 50)
    with pytest.raises(errors.DataCorruptError, match=f"must cover the {size} bytes"):
        shard_index.check_contiguous(ENTRIES, size)


def test_entries_with_a_gap_or_an_overlap_are_refused():
    for offset in (19, 21):
        moved = ENTRIES.copy()
        moved["offset"][1] = offset
        with pytest.raises(errors.DataCorruptError, match="must cover"):
            shard_index.check_contiguous(moved, offset + 30)
