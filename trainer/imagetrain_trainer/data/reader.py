"""Reading records by their number: planned range GETs, every record checked against its CRC.

A record id counts through a split's shards in order. Each read is planned from the byte indexes, goes to all its
shards at once, and comes back in the order asked. A split that is small enough is read once as whole shards and kept
in memory.
"""

import concurrent.futures
import dataclasses
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset as dataset_module
from imagetrain_trainer.data import example, shard_index, tfrecord
from imagetrain_trainer.storage import store

_ADVICE = "Upload that file again, or pack the data set again."


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReaderOptions:
    """How much the reader may hold and how many requests it may have under way."""

    in_memory_bytes: int = 64 * 1024 * 1024
    """A split whose shards have at most this many bytes is kept in memory (as about twice as many)."""
    concurrent_gets: int = 8
    """Shards that are read from at the same time."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RecordBatch:
    """Records in the order they were asked for; b of them, possibly none.

    Attributes:
        payloads: encoded bytes of each image (see `example.Record`).
        formats: "raw", "png" or "jpeg" of each.
        labels: (b,) int32.
        record_ids: (b,) int64.
        heights: (b,) int32, pixels.
        widths: (b,) int32, pixels.
        channels: (b,) int32, of the stored image.
        keys: source name of each.
    """

    payloads: list[bytes]
    formats: list[str]
    labels: npt.NDArray[np.int32]
    record_ids: npt.NDArray[np.int64]
    heights: npt.NDArray[np.int32]
    widths: npt.NDArray[np.int32]
    channels: npt.NDArray[np.int32]
    keys: list[str]

    def __len__(self) -> int:
        return len(self.payloads)

    @property
    def size_bytes(self) -> int:
        """Bytes of all payloads."""
        return sum(map(len, self.payloads))


class DatasetReader:
    """The records of one split. Thread-safe; close it, or use it in a `with` block, to end its threads."""

    def __init__(self, objects: store.ObjectStore, split: str, options: ReaderOptions | None = None) -> None:
        """Load `dataset.json` and the split's indexes.

        Args:
            objects: the data set's store.
            split: "train", "validation" or "test".
            options: limits.

        Raises:
            errors.ObjectNotFoundError: no data set is there, or an index is missing.
            errors.DataCorruptError: an index is truncated, damaged, or does not fit `dataset.json`.
        """
        self._objects = objects
        self._options = options or ReaderOptions()
        self.dataset = dataset_module.load_dataset(objects)
        self.split = split
        self._shards = self.dataset.splits[split].shards
        self._pool = concurrent.futures.ThreadPoolExecutor(self._options.concurrent_gets, "imagetrain-get")
        try:
            indexes = list(self._pool.map(self._load_index, self._shards))
        except BaseException:
            self._pool.shutdown()
            raise
        self._entries = np.concatenate([np.zeros(0, shard_index.ENTRY), *indexes])
        self._first_ids = np.cumsum([0, *(shard.records for shard in self._shards)])
        self._labels = np.ascontiguousarray(self._entries["label"], np.int32)
        self._check_labels()
        self._lock = threading.Lock()
        self._resident: list[example.Record] | None = None

    @property
    def records(self) -> int:
        """Records in the split."""
        return len(self._entries)

    @property
    def labels(self) -> npt.NDArray[np.int32]:
        """Label of every record, (records,) int32, from the indexes alone."""
        return self._labels

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the threads after the reads under way."""
        self._pool.shutdown(cancel_futures=True)

    def size_bytes(self, record_ids: npt.NDArray[np.integer[Any]]) -> int:
        """Return the stored bytes of some records, from the indexes alone."""
        return int(self._entries["length"][record_ids].sum(dtype=np.int64))

    def read(self, record_ids: npt.NDArray[np.integer[Any]]) -> RecordBatch:
        """Read some records, which may repeat and come in any order.

        Raises:
            errors.DataCorruptError: a record fails its CRC or does not parse; names shard, record and offset.
            errors.StorageError: the store failed.
            IndexError: a record id is not in the split.
        """
        ids = np.asarray(record_ids, np.int64)
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < self.records:
            raise IndexError(f"record ids must be in [0, {self.records}), got {int(ids.min())} to {int(ids.max())}.")
        if self.dataset.splits[self.split].size_bytes <= self._options.in_memory_bytes:
            resident = self._load_resident()
            return _build_batch(ids, [resident[record_id] for record_id in ids.tolist()])
        return _build_batch(ids, self._read_planned(ids))

    def _read_planned(self, ids: npt.NDArray[np.int64]) -> list[example.Record]:
        shard_numbers = np.searchsorted(self._first_ids, ids, side="right") - 1
        wanted = {int(number): np.unique(ids[shard_numbers == number]) for number in np.unique(shard_numbers)}
        found: dict[int, example.Record] = {}
        if len(wanted) == 1:
            found.update(self._read_shard(*next(iter(wanted.items()))))
        else:
            for records in self._pool.map(self._read_shard, wanted.keys(), wanted.values()):
                found.update(records)
        return [found[record_id] for record_id in ids.tolist()]

    def _read_shard(self, number: int, ids: npt.NDArray[np.int64]) -> dict[int, example.Record]:
        entries = self._entries[ids]
        key = self._shards[number].key
        frames = self._objects.get_ranges(key, entries["offset"].tolist(), entries["length"].tolist())
        return {
            record_id: self._open(number, record_id, frame)
            for record_id, frame in zip(ids.tolist(), frames, strict=True)
        }

    def _open(self, shard_number: int, record_id: int, frame: bytes) -> example.Record:
        """Check and parse one record's frame."""
        offset, _, label, crc = self._entries[record_id].item()
        try:
            record = example.decode_record(tfrecord.unframe(frame, crc))
            _require(record.label == label, f"must have its index's label {label}, got {record.label}")
        except errors.DataCorruptError as e:
            place = self._objects.uri_of(self._shards[shard_number].key)
            number = record_id - int(self._first_ids[shard_number])
            raise errors.DataCorruptError(
                f"{place} record {number} at offset {offset} (record id {record_id} of {self.split}) {e}. {_ADVICE}"
            ) from e
        return record

    def _load_resident(self) -> list[example.Record]:
        with self._lock:
            if self._resident is None:
                parts = self._pool.map(self._read_whole_shard, range(len(self._shards)))
                self._resident = [record for part in parts for record in part]
            return self._resident

    def _read_whole_shard(self, number: int) -> list[example.Record]:
        shard, first = self._shards[number], int(self._first_ids[number])
        data = self._objects.get(shard.key)
        if len(data) != shard.size_bytes:
            raise errors.DataCorruptError(
                f"{self._objects.uri_of(shard.key)} must have {shard.size_bytes} bytes, got {len(data)}. {_ADVICE}"
            )
        entries = self._entries[first : first + shard.records]
        spans = zip(entries["offset"].tolist(), entries["length"].tolist(), strict=True)
        return [self._open(number, first + i, data[start : start + length]) for i, (start, length) in enumerate(spans)]

    def _load_index(self, shard: dataset_module.Shard) -> shard_index.Entries:
        data = self._objects.get(shard.index_key)
        try:
            entries = shard_index.decode(data)
            is_listed = len(entries) == shard.records and shard_index.checksum(data) == shard.index_crc32c
            _require(is_listed, f"must be the index of {shard.records} records that {dataset_module.KEY} lists")
            shard_index.check_contiguous(entries, shard.size_bytes)
        except errors.DataCorruptError as e:
            raise errors.DataCorruptError(f"{self._objects.uri_of(shard.index_key)} {e}. {_ADVICE}") from e
        return entries

    def _check_labels(self) -> None:
        counts = self.dataset.splits[self.split].class_counts
        is_known = not self.records or 0 <= int(self._labels.min()) <= int(self._labels.max()) < len(counts)
        if not is_known or tuple(np.bincount(self._labels, minlength=len(counts)).tolist()) != counts:
            raise errors.DataCorruptError(
                f"{self._objects.uri} must have the labels that {dataset_module.KEY} counts in {self.split}. {_ADVICE}"
            )


def _require(is_met: bool, rule: str) -> None:  # noqa: FBT001
    if not is_met:
        raise errors.DataCorruptError(rule)


def _build_batch(ids: npt.NDArray[np.int64], records: Sequence[example.Record]) -> RecordBatch:
    return RecordBatch(
        payloads=[record.payload for record in records],
        formats=[record.format for record in records],
        labels=np.array([record.label for record in records], np.int32),
        record_ids=ids,
        heights=np.array([record.height for record in records], np.int32),
        widths=np.array([record.width for record in records], np.int32),
        channels=np.array([record.channels for record in records], np.int32),
        keys=[record.key for record in records],
    )
