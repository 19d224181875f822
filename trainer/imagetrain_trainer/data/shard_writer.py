"""Shards: framed records put together up to a target size, and the byte index of each."""

import dataclasses
import hashlib
from collections.abc import Iterable

import numpy as np

from imagetrain_trainer.data import dataset, example, shard_index, tfrecord
from imagetrain_trainer.storage import store

SHARD_KEY = "{split}/shard-{number:05d}.tfrecord"
INDEX_KEY = "{split}/shard-{number:05d}.index"

Bytes = bytes | memoryview


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WrittenShard:
    """A shard in the store.

    Attributes:
        shard: what `dataset.json` says of it.
        stored: the TFRecord file, as the store knows it.
        stored_index: the index.
    """

    shard: dataset.Shard
    stored: store.ObjectInfo
    stored_index: store.ObjectInfo


class OpenShard:
    """The frames of one shard, in memory. Its bytes depend on the records and the target size alone."""

    def __init__(self, target_bytes: int) -> None:
        self._target_bytes = target_bytes
        self._parts: list[Bytes] = []
        self._entries: list[tuple[int, int, int, int]] = []
        self._size_bytes = 0

    @property
    def records(self) -> int:
        """Number of records in it."""
        return len(self._entries)

    def has_room(self, frame_bytes: int) -> bool:
        """Tell whether a frame still fits; the first always does."""
        return not self._entries or self._size_bytes + frame_bytes <= self._target_bytes

    def add(self, frame: Bytes, label: int, crc: int) -> None:
        """Append a framed record with its label and masked CRC32C."""
        self._entries.append((self._size_bytes, len(frame), label, crc))
        self._parts.append(frame)
        self._size_bytes += len(frame)

    def write(self, objects: store.ObjectStore, split: str, number: int) -> WrittenShard:
        """Write the shard and then its index, and give its memory back. Raises `errors.StorageError`."""
        data = b"".join(self._parts)
        self._parts.clear()
        index = shard_index.encode(np.array(self._entries, shard_index.ENTRY))
        shard = dataset.Shard(
            key=SHARD_KEY.format(split=split, number=number),
            records=len(self._entries),
            size_bytes=len(data),
            crc32c=tfrecord.crc32c(data),
            sha256=hashlib.sha256(data).hexdigest(),
            index_key=INDEX_KEY.format(split=split, number=number),
            index_size_bytes=len(index),
            index_crc32c=shard_index.checksum(index),
        )
        return WrittenShard(
            shard=shard,
            stored=objects.put(shard.key, data, content_type="application/octet-stream"),
            stored_index=objects.put(shard.index_key, index, content_type="application/octet-stream"),
        )


class ShardWriter:
    """Writes the records of one split, a shard whenever the next record would pass the target size."""

    def __init__(self, objects: store.ObjectStore, split: str, target_bytes: int) -> None:
        self._objects = objects
        self._split = split
        self._target_bytes = target_bytes
        self._open = OpenShard(target_bytes)
        self._shards: list[dataset.Shard] = []

    def add(self, record: example.Record) -> None:
        """Append a record; may write a shard. Raises `errors.StorageError`."""
        framed, crc = tfrecord.frame(example.encode_record(record))
        if not self._open.has_room(len(framed)):
            self._flush()
        self._open.add(framed, record.label, crc)

    def finish(self) -> tuple[dataset.Shard, ...]:
        """Write the last shard and return all; none when there were no records. Raises `errors.StorageError`."""
        if self._open.records:
            self._flush()
        return tuple(self._shards)

    def _flush(self) -> None:
        self._shards.append(self._open.write(self._objects, self._split, len(self._shards)).shard)
        self._open = OpenShard(self._target_bytes)


def count_classes(labels: Iterable[int], classes: int) -> tuple[int, ...]:
    """Count the records of each class."""
    counts = [0] * classes
    for label in labels:
        counts[label] += 1
    return tuple(counts)
