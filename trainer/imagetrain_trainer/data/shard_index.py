"""The byte index of a shard: where each record lies, its label and its CRC, in a fixed-width binary file.

Layout, all little endian (docs/dataset-format.md):

    header   8 bytes  magic "IMGTRIDX"
             u32      version, 1
             u32      bytes per entry, 20 (a reader skips what it does not know at an entry's end)
             u64      number of entries
    entries  u64      offset of the record's frame in the shard
             u32      bytes of the frame
             i32      label
             u32      masked CRC32C of the record's data
    footer   u32      CRC32C of everything before it
"""

import struct

import numpy as np
import numpy.typing as npt

from imagetrain_trainer import errors
from imagetrain_trainer.data import tfrecord

MAGIC = b"IMGTRIDX"
VERSION = 1
ENTRY = np.dtype([("offset", "<u8"), ("length", "<u4"), ("label", "<i4"), ("crc", "<u4")])
"""One entry as a numpy structured type (packed, 20 bytes)."""

Entries = npt.NDArray[np.void]

_HEADER = struct.Struct("<8sIIQ")
_FOOTER = struct.Struct("<I")


def encode(entries: Entries) -> bytes:
    """Serialize entries, shape (records,) of ENTRY."""
    body = _HEADER.pack(MAGIC, VERSION, ENTRY.itemsize, len(entries)) + np.ascontiguousarray(entries, ENTRY).tobytes()
    return body + _FOOTER.pack(tfrecord.crc32c(body))


def checksum(data: bytes) -> int:
    """Return the CRC32C of a serialized index but for its footer, which holds that value.

    The CRC of the whole file would be the same number for every index: that is how CRCs work.
    """
    return tfrecord.crc32c(data[: -_FOOTER.size])


def decode(data: bytes) -> Entries:
    """Parse an index.

    Returns:
        Entries, shape (records,) of ENTRY.

    Raises:
        errors.DataCorruptError: magic, length or CRC do not fit; the message is a rule, for the caller to prefix.
    """
    if len(data) < _HEADER.size + _FOOTER.size or not data.startswith(MAGIC):
        raise errors.DataCorruptError(f"must be an index file that begins with {MAGIC.decode()}")
    _, version, entry_bytes, count = _HEADER.unpack_from(data)
    if version != VERSION or entry_bytes < ENTRY.itemsize:
        raise errors.DataCorruptError(f"must be an index of version {VERSION}, got {version}")
    expected = _HEADER.size + entry_bytes * count + _FOOTER.size
    if len(data) != expected:
        raise errors.DataCorruptError(f"must have {expected} bytes for its {count} records, got {len(data)}: truncated")
    if checksum(data) != _FOOTER.unpack_from(data, len(data) - _FOOTER.size)[0]:
        raise errors.DataCorruptError("must match its CRC32C")
    rows = np.frombuffer(data, np.uint8, count * entry_bytes, _HEADER.size).reshape(count, entry_bytes)
    return np.ascontiguousarray(rows[:, : ENTRY.itemsize]).view(ENTRY).reshape(count)


def check_contiguous(entries: Entries, shard_bytes: int) -> None:
    """Raise DataCorruptError unless the entries' frames cover the shard's bytes from first to last without a gap."""
    ends = entries["offset"] + entries["length"].astype(np.uint64)
    starts = np.concatenate([np.zeros(1, np.uint64), ends])
    is_covered = bool((starts[:-1] == entries["offset"]).all()) and int(starts[-1]) == shard_bytes
    if not is_covered:
        raise errors.DataCorruptError(f"must cover the {shard_bytes} bytes of its shard without gaps")
