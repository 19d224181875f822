"""Writing one split: records into TFRecord shards of a target size, each followed by its byte index."""

import hashlib
from collections.abc import Iterable

import numpy as np

from imagetrain_trainer.data import dataset, example, shard_index, tfrecord
from imagetrain_trainer.storage import store

SHARD_KEY = "{split}/shard-{number:05d}.tfrecord"
INDEX_KEY = "{split}/shard-{number:05d}.index"


class ShardWriter:
    """Collects the records of one split and writes a shard whenever the next record would pass the target size.

    It holds one shard in memory. The bytes depend on the records and the target size alone.
    """

    def __init__(self, objects: store.ObjectStore, split: str, target_bytes: int) -> None:
        self._objects = objects
        self._split = split
        self._target_bytes = target_bytes
        self._frames: list[bytes] = []
        self._entries: list[tuple[int, int, int, int]] = []
        self._size_bytes = 0
        self._shards: list[dataset.Shard] = []

    def add(self, record: example.Record) -> None:
        """Append a record; may write a shard. Raises `errors.StorageError`."""
        framed, crc = tfrecord.frame(example.encode_record(record))
        if self._frames and self._size_bytes + len(framed) > self._target_bytes:
            self._flush()
        self._entries.append((self._size_bytes, len(framed), record.label, crc))
        self._frames.append(framed)
        self._size_bytes += len(framed)

    def finish(self) -> tuple[dataset.Shard, ...]:
        """Write the last shard and return all; none when there were no records. Raises `errors.StorageError`."""
        if self._frames:
            self._flush()
        return tuple(self._shards)

    def _flush(self) -> None:
        number = len(self._shards)
        key = SHARD_KEY.format(split=self._split, number=number)
        index_key = INDEX_KEY.format(split=self._split, number=number)
        data = b"".join(self._frames)
        index = shard_index.encode(np.array(self._entries, shard_index.ENTRY))
        self._objects.put(key, data, content_type="application/octet-stream")
        self._objects.put(index_key, index, content_type="application/octet-stream")
        self._shards.append(
            dataset.Shard(
                key=key,
                records=len(self._frames),
                size_bytes=len(data),
                crc32c=tfrecord.crc32c(data),
                sha256=hashlib.sha256(data).hexdigest(),
                index_key=index_key,
                index_size_bytes=len(index),
                index_crc32c=shard_index.checksum(index),
            )
        )
        self._frames, self._entries, self._size_bytes = [], [], 0


def count_classes(labels: Iterable[int], classes: int) -> tuple[int, ...]:
    """Count the records of each class."""
    counts = [0] * classes
    for label in labels:
        counts[label] += 1
    return tuple(counts)
