"""Reading records by their number, each checked against its CRC; `prefetch` does the same ahead of its use.

A record id counts through a split's shards in order. A split that is small enough is read once and kept in memory.
"""

import collections
import dataclasses
import pathlib
import threading
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from imagetrain_trainer import errors
from imagetrain_trainer.data import block_reads, blocks, cell_cache, disk_cache, example, record_batch, shard_indexes
from imagetrain_trainer.data import dataset as dataset_module
from imagetrain_trainer.data.record_batch import RecordBatch
from imagetrain_trainer.storage import fetch_counters, fetching, store, tuning

__all__ = ["CacheOptions", "DatasetReader", "ReadCounters", "ReaderOptions", "RecordBatch"]

_INDEXES_AHEAD = 32
_EAGER_INDEXES = 64  # shards whose indexes are read, and counted over, at once: 4 GB of shards of the default size


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CacheOptions:
    """Where copies of what was read are kept, and how much of them."""

    folder: pathlib.Path
    """On a local disk; the workers of a node may share it, and it keeps what it has from run to run."""
    max_bytes: int
    """Most bytes of all copies in the folder, those of other data sets included."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReaderOptions:
    """How a reader reads, and what it may hold."""

    in_memory_bytes: int = blocks.RESIDENT_BYTES
    """A split whose shards have at most this many bytes is kept in memory."""
    cache: CacheOptions | None = None
    """Disk cache of what is read from the store; None: no cache. A split that is kept in memory needs none."""
    fetch: fetching.FetchOptions = dataclasses.field(default_factory=fetching.FetchOptions)
    """How requests are made."""
    tune: bool = False
    """Measure the store for 3 s first, and choose the size and number of requests by it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReadCounters:
    """What a reader did so far; `cache` is None without one."""

    requests: fetch_counters.FetchCounters
    cache: disk_cache.CacheCounters | None


class DatasetReader:
    """The records of one split. Thread-safe; close it, or use it in a `with` block, to end its threads."""

    def __init__(self, objects: store.ObjectStore, split: str, options: ReaderOptions | None = None) -> None:
        """Load `dataset.json` and, of a split of few shards, the indexes; others are read when they are needed.

        Args:
            objects: the data set's store.
            split: "train", "validation" or "test".
            options: how to read.

        Raises:
            errors.ObjectNotFoundError: no data set is there, or an index is missing.
            errors.DataCorruptError: an index is truncated, damaged, or does not fit `dataset.json`.
        """
        self._options = options or ReaderOptions()
        self.dataset = dataset_module.load_dataset(objects)
        self.split = split
        described = self.dataset.splits[split]
        self.layout = blocks.plan_split(described)
        self._lock = threading.Lock()
        self._resident: list[example.Record] | None = None
        self._labels: npt.NDArray[np.int32] | None = None
        self._objects = objects
        self._cells: cell_cache.CellCache | None = None
        self._fetcher = fetching.Fetcher(objects, self._choose_requests(described))
        try:
            self._cells = self._open_cache()
            self.origin = block_reads.Origin(
                objects=objects,
                fetcher=self._fetcher,
                split=split,
                shards=described.shards,
                first_records=np.cumsum([0, *(shard.records for shard in described.shards)], dtype=np.int64)[:-1],
                layout=self.layout,
                indexes=shard_indexes.ShardIndexes(objects, self._fetcher, described.shards),
                cache=self._cells,
            )
            if len(described.shards) <= _EAGER_INDEXES:
                self._labels = self._load_labels()
        except BaseException:
            self.close()
            raise

    @property
    def records(self) -> int:
        """Records in the split."""
        return self.layout.records

    @property
    def is_resident(self) -> bool:
        """Whether the split is kept in memory."""
        return self.dataset.splits[self.split].size_bytes <= self._options.in_memory_bytes

    @property
    def mean_record_bytes(self) -> float:
        """Stored bytes of an average record, its framing included."""
        return self.dataset.splits[self.split].size_bytes / max(1, self.records)

    @property
    def labels(self) -> npt.NDArray[np.int32]:
        """Label of every record, (records,) int32, from the indexes alone; the first use may read all of them."""
        if self._labels is None:
            self._labels = self._load_labels()
        return self._labels

    @property
    def counters(self) -> ReadCounters:
        """Return a snapshot of what was read and how."""
        return ReadCounters(requests=self._fetcher.counters, cache=self._cells.counters if self._cells else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the requests under way and the threads."""
        self._fetcher.close()
        if self._cells is not None:
            self._cells.close()

    def _choose_requests(self, described: dataset_module.Split) -> fetching.FetchOptions:
        if not self._options.tune or self.is_resident:
            return self._options.fetch
        sizes = [(shard.key, shard.size_bytes) for shard in described.shards]
        return tuning.tune(self._objects, sizes, self._options.fetch)

    def _open_cache(self) -> cell_cache.CellCache | None:
        options = self._options.cache
        if options is None or self.is_resident:
            return None
        return cell_cache.CellCache(disk_cache.DiskCache(options.folder, options.max_bytes, scope=self.dataset.digest))

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
        if self.is_resident:
            resident = self._load_resident()
            return record_batch.build(ids, [resident[record_id] for record_id in ids.tolist()])
        return record_batch.build(ids, self._read(ids.tolist(), self.layout.block_of(ids).tolist()))

    def _read(self, ids: list[int], block_numbers: list[int]) -> list[record_batch.StoredRecord | example.Record]:
        wanted: dict[int, list[int]] = collections.defaultdict(list)
        for record_id, block in zip(ids, block_numbers, strict=True):
            wanted[block].append(record_id)
        for block in wanted:
            self.origin.indexes.request(self.layout.shard_of(block))
        reads = {}
        for block, its_ids in wanted.items():
            reads[block] = block_reads.BlockRead(self.origin, block)
            reads[block].need(its_ids, priority=0.0)
        return [reads[block].take(record_id) for record_id, block in zip(ids, block_numbers, strict=True)]

    def _load_resident(self) -> list[example.Record]:
        with self._lock:
            if self._resident is None:
                ids = np.arange(self.records)
                stored = self._read(ids.tolist(), self.layout.block_of(ids).tolist())
                self._resident = record_batch.build(ids, stored).records
            return self._resident

    def _load_labels(self) -> npt.NDArray[np.int32]:
        """Read every index, some ahead, and count what it says."""
        shards = self.dataset.splits[self.split].shards
        labels = np.empty(self.records, np.int32)
        for number, shard in enumerate(shards):
            for later in range(number, min(number + _INDEXES_AHEAD, len(shards))):
                self.origin.indexes.request(later)
            first = int(self.origin.first_records[number])
            labels[first : first + shard.records] = self.origin.indexes.entries(number)["label"]
        counts = self.dataset.splits[self.split].class_counts
        is_known = not self.records or 0 <= int(labels.min()) <= int(labels.max()) < len(counts)
        if not is_known or tuple(np.bincount(labels, minlength=len(counts)).tolist()) != counts:
            raise errors.DataCorruptError(
                f"{self._objects.uri} must have the labels that {dataset_module.KEY} counts in {self.split}. "
                f"{shard_indexes.ADVICE}"
            )
        labels.flags.writeable = False
        return labels
