"""A shard read from its first byte to its last, once, in bounded memory, with its checksums on the way."""

import hashlib

from imagetrain_trainer import errors
from imagetrain_trainer.data import example, shard_index, tfrecord
from imagetrain_trainer.data.dataset import Shard
from imagetrain_trainer.storage import store

PIECE_BYTES = 8 * 1024 * 1024
"""Bytes of a request: the reader's size of a range GET. A stream holds two of them, or its largest record and one."""


class ShardStream:
    """The bytes of one object in order; `crc32c` and `sha256` are of what was taken or drained, ahead by a piece.

    Attributes:
        size_bytes: of the object as it is, not as the data set lists it.
        crc32c: of the bytes read so far.
    """

    def __init__(self, objects: store.ObjectStore, key: str) -> None:
        """Ask for the object's size.

        Raises:
            errors.ObjectNotFoundError: it is not there.
        """
        self._objects, self._key = objects, key
        self.size_bytes = objects.head(key).size_bytes
        self.crc32c = 0
        self._sha256 = hashlib.sha256()
        self._data, self._at, self._fetched = b"", 0, 0

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes read so far, hexadecimal."""
        return self._sha256.hexdigest()

    @property
    def offset(self) -> int:
        """Offset of the next byte that `take` gives."""
        return self._fetched - len(self._data) + self._at

    @property
    def fetched_bytes(self) -> int:
        """Bytes read from the store so far."""
        return self._fetched

    def take(self, length: int) -> bytes:
        """Return the next bytes; fewer where the object ends.

        Raises:
            errors.DataCorruptError: the object became shorter meanwhile.
            errors.StorageError: the store failed.
        """
        while len(self._data) - self._at < length and self._fetched < self.size_bytes:
            self._fetch(length - (len(self._data) - self._at))
        taken = self._data[self._at : self._at + length]
        self._at += len(taken)
        return taken

    def drain(self) -> None:
        """Read to the end, for the checksums."""
        self._data, self._at = b"", 0
        while self._fetched < self.size_bytes:
            self._fetch(PIECE_BYTES)
            self._data = b""

    def _fetch(self, missing: int) -> None:
        length = min(max(PIECE_BYTES, missing), self.size_bytes - self._fetched)
        piece = self._objects.get_range(self._key, self._fetched, length)
        self.crc32c = tfrecord.crc32c(piece, self.crc32c)
        self._sha256.update(piece)
        self._fetched += len(piece)
        rest = self._data[self._at :]
        self._data, self._at = rest + piece if rest else piece, 0


def load_index(objects: store.ObjectStore, shard: Shard) -> shard_index.Entries:
    """Read a shard's index and check it against what `dataset.json` lists.

    Returns:
        Entries, shape (shard.records,) of shard_index.ENTRY.

    Raises:
        errors.ObjectNotFoundError: it is not there.
        errors.DataCorruptError: it is damaged or another shard's; the message is a rule, for the caller to prefix.
    """
    data = objects.get(shard.index_key)
    entries = shard_index.decode(data)
    if len(entries) != shard.records:
        raise errors.DataCorruptError(f"must list the shard's {shard.records} records, got {len(entries)}")
    if shard_index.checksum(data) != shard.index_crc32c:
        raise errors.DataCorruptError("must have the CRC32C that dataset.json lists: it is another shard's")
    shard_index.check_contiguous(entries, shard.size_bytes)
    return entries


def check_label(record: example.Record, label: int) -> None:
    """Raise DataCorruptError unless a record has the label of its index entry; the message is a rule."""
    if record.label != label:
        raise errors.DataCorruptError(f"must have its index's label {label}, got {record.label}")


def check_label_range(record: example.Record, classes: int) -> None:
    """Raise DataCorruptError unless a record's label is that of a class; the message is a rule."""
    if not 0 <= record.label < classes:
        raise errors.DataCorruptError(f"must have a label below {classes}, got {record.label}")
