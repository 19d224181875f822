"""Fetching the needed records of blocks: which byte ranges, from the disk cache or the store, and their checks.

A block is cut into cells. Without a cache those that hold needed records are joined into as few ranges as their gaps
allow; with one, each cell is `cell_cache`'s to fill.
"""

import bisect
import concurrent.futures
import dataclasses
import logging
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from imagetrain_trainer import errors
from imagetrain_trainer.data import (
    blocks,
    cell_cache,
    dataset,
    example,
    record_batch,
    shard_index,
    shard_indexes,
)
from imagetrain_trainer.storage import fetching, store, whole_reads

logger = logging.getLogger(__name__)

CELL_BYTES = 256 * 1024
"""Bytes of a cell, about: what is read beside the needed records, where many workers share a block."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the records of one split come from.

    Attributes:
        objects: the data set's store.
        fetcher: reads its objects.
        split: name of the split, for messages.
        shards: of the split.
        first_records: (shards,) record id of each shard's first record.
        layout: its blocks.
        indexes: of its shards.
        cache: disk cache, or None.
    """

    objects: store.ObjectStore
    fetcher: fetching.Fetcher
    split: str
    shards: Sequence[dataset.Shard]
    first_records: npt.NDArray[np.int64]
    layout: blocks.Layout
    indexes: shard_indexes.ShardIndexes
    cache: cell_cache.CellCache | None


class _Fetched:
    """A range of an object, on its way or here. `bytes_of` is for one thread; `cancel` is for any."""

    def __init__(self, start: int, future: "concurrent.futures.Future[memoryview]") -> None:
        self._start, self._future = start, future
        self._data: memoryview | None = None

    def bytes_of(self, start: int, length: int) -> memoryview:
        """Return some of its bytes, by their place in the object, waiting for them."""
        if self._data is None:
            self._data = memoryview(self._future.result())
        return self._data[start - self._start : start - self._start + length]

    def cancel(self) -> None:
        self._future.cancel()


class BlockRead:
    """The needed records of one block. `need` and `take` are for one thread; `cancel` is for any."""

    def __init__(self, origin: Origin, block: int) -> None:
        """Wait for the block's index and plan its cells; raises as `shard_indexes.ShardIndexes.entries` does."""
        self._origin = origin
        self._first, stop = origin.layout.block_range(block)
        self._shard_number = origin.layout.shard_of(block)
        self._shard = origin.shards[self._shard_number]
        self._shard_first = int(origin.first_records[self._shard_number])
        entries = origin.indexes.entries(self._shard_number)
        own = entries[self._first - self._shard_first : stop - self._shard_first]
        self._bounds = cut(own, CELL_BYTES if origin.cache is None else cell_cache.CELL_BYTES)
        # A list, so that the shard's index may be forgotten, and for one number it is many times faster.
        self._entries: list[tuple[int, int, int, int]] = own.tolist()
        self._cells: dict[int, cell_cache.Cell | _Fetched] = {}

    def need(self, record_ids: Iterable[int], priority: float) -> int:
        """Begin to fetch records of this block that were not asked for before; return the bytes that this adds."""
        first, bounds = self._first, self._bounds
        wanted = {bisect.bisect_right(bounds, record_id - first) - 1 for record_id in record_ids}
        new = sorted(wanted.difference(self._cells))
        if new:
            (self._fetch if self._origin.cache is None else self._look_up)(new, priority)
        return sum(stop - start for start, stop in map(self._span, new))

    def _fetch(self, numbers: list[int], priority: float) -> None:
        """Ask the store for some cells, neighbours together."""
        first = 0
        for place in range(1, len(numbers) + 1):
            if place < len(numbers) and numbers[place] == numbers[place - 1] + 1:
                continue
            start, stop = self._span(numbers[first])[0], self._span(numbers[place - 1])[1]
            fetched = _Fetched(start, self._origin.fetcher.get(self._shard.key, start, stop - start, priority))
            self._cells.update(dict.fromkeys(numbers[first:place], fetched))
            first = place

    def _look_up(self, numbers: list[int], priority: float) -> None:
        """Ask the cache for some cells, and the store for those that it lacks."""
        assert self._origin.cache is not None
        cells = [cell_cache.Cell(*self._span(number)) for number in numbers]
        self._cells.update(zip(numbers, cells, strict=True))
        self._origin.cache.read(self._origin.fetcher, self._shard.key, cells, priority)

    def _span(self, number: int) -> tuple[int, int]:
        """Return the first byte of a cell in its shard, and the one behind its last."""
        offset, length, _, _ = self._entries[self._bounds[number + 1] - 1]
        return self._entries[self._bounds[number]][0], offset + length

    def take(self, record_id: int) -> record_batch.StoredRecord | example.Record:
        """Return a record that `need` was called for, waiting for it; checked, and read again where it is wrong.

        Raises:
            errors.DataCorruptError: it is wrong in the store too; names shard, record and offset.
            errors.StorageError: the store failed.
            concurrent.futures.CancelledError: `cancel` was called.
        """
        place = record_id - self._first
        offset, length, label, crc = self._entries[place]
        cell = self._cells[bisect.bisect_right(self._bounds, place) - 1]
        try:
            return record_batch.open_frame(cell.bytes_of(offset, length), label, crc)
        except errors.DataCorruptError as e:
            logger.warning("%s is read again: it %s", self._name(record_id, offset), e)
        if self._origin.cache is not None and isinstance(cell, cell_cache.Cell):
            self._origin.cache.discard(cell.cache_key(self._shard.key))

        def read() -> record_batch.StoredRecord | example.Record:
            frame = self._origin.fetcher.get(self._shard.key, offset, length, priority=0.0).result()
            try:
                return record_batch.open_frame(memoryview(frame), label, crc)
            except errors.DataCorruptError as e:
                raise errors.DataCorruptError(f"{self._name(record_id, offset)} {e}. {shard_indexes.ADVICE}") from e

        return whole_reads.read_whole(read)

    def _name(self, record_id: int, offset: int) -> str:
        return (
            f"{self._origin.objects.uri_of(self._shard.key)} record {record_id - self._shard_first} at offset {offset} "
            f"(record id {record_id} of {self._origin.split})"
        )

    def cancel(self) -> None:
        """Drop what is on its way; whoever waits in `take` gets CancelledError."""
        for cell in list(self._cells.values()):
            cell.cancel()


def cut(entries: shard_index.Entries, cell_bytes: int) -> list[int]:
    """Return where a block's cells begin, as places in it, and its number of records behind the last."""
    records = len(entries)
    cells = min(records, max(1, round(int(entries["length"].sum(dtype=np.int64)) / cell_bytes)))
    return [cell * records // cells for cell in range(cells + 1)]
