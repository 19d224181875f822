"""TFRecord frames: written, read, and every damage found."""

import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.data import tfrecord


def test_crc32c_is_that_of_rfc_3720():
    assert tfrecord.crc32c(b"\x00" * 32) == 0x8A9136AA
    assert tfrecord.crc32c(bytes(range(32))) == 0x46DD794E


def test_a_frame_is_what_tensorflow_writes():
    """The bytes that tf.io.TFRecordWriter wrote for the record b"imagetrain"."""
    framed, crc = tfrecord.frame(b"imagetrain")
    assert framed.hex() == "0a00000000000000aea3bf3a696d616765747261696ea029796a"
    assert crc == int.from_bytes(framed[-4:], "little")


@pytest.mark.parametrize("data", [b"", b"1", bytes(1000)])
def test_what_is_framed_is_read_back(data):
    framed, crc = tfrecord.frame(data)
    assert tfrecord.unframe(framed) == data
    assert tfrecord.unframe(framed, crc) == data


def test_a_flip_of_any_bit_is_found():
    framed, crc = tfrecord.frame(b"some data")
    for position in range(len(framed) * 8):
        damaged = bytearray(framed)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(errors.DataCorruptError):
            tfrecord.unframe(bytes(damaged), crc)


def test_a_cut_or_padded_frame_is_found():
    framed, _ = tfrecord.frame(b"some data")
    for damaged in (*(framed[:length] for length in range(len(framed))), framed + b"\x00"):
        with pytest.raises(errors.DataCorruptError):
            tfrecord.unframe(damaged)


def test_a_whole_but_other_record_is_found_by_the_index():
    _, crc = tfrecord.frame(b"some data")
    other, _ = tfrecord.frame(b"data some")
    with pytest.raises(errors.DataCorruptError, match="must match its CRC32C"):
        tfrecord.unframe(other, crc)


def test_iterating_over_a_shard_gives_offsets_and_data():
    shard = b"".join(tfrecord.frame(data)[0] for data in (b"a", b"", b"ccc"))
    assert list(tfrecord.iterate(shard)) == [(0, b"a"), (17, b""), (33, b"ccc")]
    for cut, offset in ((40, 33), (20, 17)):
        with pytest.raises(errors.DataCorruptError, match=f"record at offset {offset}"):
            list(tfrecord.iterate(shard[:cut]))
