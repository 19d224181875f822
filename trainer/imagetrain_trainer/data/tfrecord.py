"""TFRecord framing without TensorFlow: length, its masked CRC, the data, and the data's masked CRC (all little endian).

Source: tensorflow/core/lib/io/record_writer.h; CRC32C is RFC 3720's, by the C code of AWS's common runtime, which takes
views of memory and uses AVX-512.
"""

import struct
from collections.abc import Iterator

from awscrt import checksums

from imagetrain_trainer import errors

HEADER_BYTES = 12
FOOTER_BYTES = 4
FRAME_BYTES = HEADER_BYTES + FOOTER_BYTES
"""What the framing adds to a record's data."""

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_LENGTH_BYTES = 8
_MASK_DELTA = 0xA282EAD8


def crc32c(data: bytes | memoryview, start: int = 0) -> int:
    """Return the CRC32C of `data`, continuing from the CRC `start`."""
    return int(checksums.crc32c(data, start))


def mask(crc: int) -> int:
    """Return a CRC as TFRecord stores it: rotated and offset, so that a CRC of data that holds CRCs stays useful."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def masked_crc32c(data: bytes | memoryview) -> int:
    """Return the masked CRC of some data."""
    return mask(checksums.crc32c(data))


def frame(data: bytes) -> tuple[bytes, int]:
    """Frame one record; return the framed bytes and the data's masked CRC."""
    length = struct.pack("<Q", len(data))
    crc = masked_crc32c(data)
    return b"".join((length, _FOOTER.pack(masked_crc32c(length)), data, _FOOTER.pack(crc))), crc


def unframe(framed: bytes, expected_crc: int | None = None) -> bytes:
    """Return the data of exactly one framed record after checking its length and CRCs.

    Args:
        framed: header, data, footer.
        expected_crc: the masked CRC that the index holds, when there is one.

    Raises:
        errors.DataCorruptError: a check fails; the message is a rule, for the caller to prefix with the place.
    """
    check_length(framed)
    data = framed[HEADER_BYTES:-FOOTER_BYTES]
    crc = masked_crc32c(data)
    if crc != read_crc(framed) or expected_crc not in (None, crc):
        raise errors.DataCorruptError("must match its CRC32C")
    return data


def check_length(framed: bytes | memoryview) -> None:
    """Check the length and its CRC at the head of exactly one framed record; raises as `unframe` does."""
    if len(framed) < FRAME_BYTES:
        raise errors.DataCorruptError(f"must have at least {FRAME_BYTES} bytes, got {len(framed)}")
    if not is_header(bytes(framed[:HEADER_BYTES]), len(framed)):
        raise errors.DataCorruptError(
            f"must begin with its length {len(framed) - FRAME_BYTES} and that length's CRC32C"
        )


def is_header(head: bytes, framed_bytes: int) -> bool:
    """Say whether `head` begins as a framed record of `framed_bytes` does: with its length and that length's CRC."""
    length, length_crc = _HEADER.unpack_from(head)
    return bool(length == framed_bytes - FRAME_BYTES and length_crc == mask(checksums.crc32c(head[:_LENGTH_BYTES])))


def read_crc(framed: bytes | memoryview) -> int:
    """Return the masked CRC of the data that a framed record ends with."""
    crc: int = _FOOTER.unpack_from(framed, len(framed) - FOOTER_BYTES)[0]
    return crc


def iterate(shard: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (offset of the frame, data) of each record in a whole shard.

    Raises:
        errors.DataCorruptError: a frame is broken or the shard ends inside one; the message names the offset.
    """
    offset = 0
    while offset < len(shard):
        if len(shard) - offset < HEADER_BYTES:
            raise errors.DataCorruptError(f"record at offset {offset} is cut off by the end of the file")
        length = _HEADER.unpack_from(shard, offset)[0]
        stop = offset + length + FRAME_BYTES
        try:
            yield offset, unframe(shard[offset:stop])
        except errors.DataCorruptError as e:
            raise errors.DataCorruptError(f"record at offset {offset} {e}") from e
        offset = stop
