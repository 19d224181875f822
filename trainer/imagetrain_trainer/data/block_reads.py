"""Fetching the needed records of blocks: which byte ranges, from the disk cache or the store, and their checks.

A block is cut into cells. Without a cache those that hold needed records are joined into as few ranges as their gaps
allow; with one, each cell is looked up, and those that miss are fetched in joined ranges and kept. What another process
of the node is fetching for the same cache is waited for, for a bounded time.
"""

import bisect
import concurrent.futures
import dataclasses
import functools
import logging
import time
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from imagetrain_trainer import errors
from imagetrain_trainer.data import (
    blocks,
    cache_claims,
    dataset,
    disk_cache,
    example,
    record_batch,
    shard_index,
    shard_indexes,
)
from imagetrain_trainer.storage import fetching, store, whole_reads

logger = logging.getLogger(__name__)

CELL_BYTES = 256 * 1024
"""Bytes of a cell, about: what is read beside the needed records, where many workers share a block."""
CACHED_CELL_BYTES = 1024 * 1024
"""Bytes of a cell that goes to the cache: its unit, a file each."""
CLAIM_SECONDS = 2.0
"""Longest wait for a cell that another process of the node fetches; then it is fetched twice."""
_CACHE_THREADS = 4
_WAIT_THREADS = 4


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
    cache: "CellCache | None"


class CellCache:
    """Looks cells up in the disk cache and keeps what was fetched, on threads of its own."""

    def __init__(self, cache: disk_cache.DiskCache) -> None:
        self._cache = cache
        self._pool = concurrent.futures.ThreadPoolExecutor(_CACHE_THREADS, "imagetrain-cache")
        self._waits = concurrent.futures.ThreadPoolExecutor(_WAIT_THREADS, "imagetrain-waits")

    @property
    def counters(self) -> disk_cache.CacheCounters:
        """Return a snapshot of what the cache did."""
        return self._cache.counters

    def discard(self, key: str) -> None:
        """Forget an entry whose content is wrong."""
        self._cache.discard(key)

    def close(self) -> None:
        """End the threads; call it when the fetcher is closed."""
        self._waits.shutdown(cancel_futures=True)
        self._pool.shutdown(cancel_futures=True)

    def read(self, fetcher: fetching.Fetcher, object_key: str, cells: "Sequence[_Cell]", priority: float) -> None:
        """Begin to fill the cells of one object, in the order of their place in it."""
        self._pool.submit(self._fill, fetcher, object_key, cells, priority)

    def _fill(self, fetcher: fetching.Fetcher, object_key: str, cells: "Sequence[_Cell]", priority: float) -> None:
        deadline = time.monotonic() + CLAIM_SECONDS
        try:
            missing = []
            for cell in cells:
                match self._look_up(cell, object_key):
                    case "here":
                        pass
                    case "missing":
                        missing.append(cell)
                    case "elsewhere":
                        self._waits.submit(self._await, fetcher, object_key, cell, priority, deadline)
            self._fetch(fetcher, object_key, missing, priority)
        except BaseException as e:  # noqa: BLE001 - whoever waits for the cells must hear of it
            _give_up(cells, e)

    def _look_up(self, cell: "_Cell", object_key: str) -> Literal["here", "missing", "elsewhere"]:
        """Settle a cell from the cache, or claim it."""
        key = cell.cache_key(object_key)
        found = self._cache.get(key, verify=False)  # each record has a CRC, and is checked by it when it is taken
        if found is None:
            claim = self._cache.claim(key)
            if claim is None:
                return "elsewhere"
            # It may have come between the look and the claim.
            found = self._cache.get(key, verify=False) if self._cache.holds(key) else None
            if found is None:
                cell.claim = claim
                return "missing"
            claim.release()
        cell.settle(found)
        return "here"

    def _await(
        self, fetcher: fetching.Fetcher, object_key: str, cell: "_Cell", priority: float, deadline: float
    ) -> None:
        """Take a cell that another process fetches; it is fetched here when that one fails, or takes too long."""
        try:
            found = self._cache.wait(cell.cache_key(object_key), deadline - time.monotonic())
            if found is None:
                self._fetch(fetcher, object_key, [cell], priority)
            else:
                cell.settle(found)
        except BaseException as e:  # noqa: BLE001 - as `_fill`
            _give_up([cell], e)

    def _fetch(self, fetcher: fetching.Fetcher, object_key: str, cells: "Sequence[_Cell]", priority: float) -> None:
        for run in _join(cells, gap_bytes=0):
            future = fetcher.get(object_key, run[0].start, run[-1].stop - run[0].start, priority)
            future.add_done_callback(functools.partial(self._take, object_key, run))

    def _take(self, object_key: str, run: "Sequence[_Cell]", done: "concurrent.futures.Future[memoryview]") -> None:
        _hand_out(run, done)
        if done.cancelled() or done.exception() is not None:
            _release(run)
            return
        try:
            kept = self._pool.submit(self._keep, object_key, run, done.result())
        except RuntimeError:  # closed by now: the cells are there, and are not kept
            logger.debug("cells of %s are not kept: the reader is closed", object_key)
            _release(run)
        else:
            kept.add_done_callback(lambda _: _release(run))  # it may be dropped from the queue

    def _keep(self, object_key: str, run: "Sequence[_Cell]", data: memoryview) -> None:
        for cell in run:
            with cell.claim:
                part = data[cell.start - run[0].start : cell.stop - run[0].start]
                self._cache.put(cell.cache_key(object_key), bytes(part))


class _Cell:
    """Some neighbouring records of a block, on their way or here.

    Attributes:
        start: its first byte in the object.
        stop: the byte behind its last.
        claim: on fetching it for the node.
    """

    def __init__(self, start: int, stop: int) -> None:
        self.start, self.stop = start, stop
        self.claim = cache_claims.Claim()
        self._future: concurrent.futures.Future[memoryview] = concurrent.futures.Future()
        self._data: memoryview | None = None

    def cache_key(self, object_key: str) -> str:
        return f"{object_key}/{self.start}-{self.stop}"

    def settle(self, data: bytes | memoryview) -> None:
        if not self._future.done():
            self._future.set_result(memoryview(data))

    def fail(self, error: BaseException) -> None:
        if not self._future.done():
            self._future.set_exception(error)

    def cancel(self) -> None:
        self._future.cancel()

    def bytes_of(self, start: int, length: int) -> memoryview:
        """Return some of its bytes, by their place in the object, waiting for them; for one thread."""
        if self._data is None:
            self._data = self._future.result()
        return self._data[start - self.start : start - self.start + length]


def _hand_out(run: Sequence[_Cell], done: "concurrent.futures.Future[memoryview]") -> None:
    """Give each cell of a run its part of what was fetched."""
    if done.cancelled():
        for cell in run:
            cell.cancel()
        return
    error = done.exception()
    data = None if error else memoryview(done.result())
    for cell in run:
        if error is not None:
            cell.fail(error)
        elif data is not None:
            cell.settle(data[cell.start - run[0].start : cell.stop - run[0].start])


def _release(cells: Sequence[_Cell]) -> None:
    for cell in cells:
        cell.claim.release()


def _give_up(cells: Sequence[_Cell], error: BaseException) -> None:
    _release(cells)
    for cell in cells:
        cell.fail(error)


def _join(cells: Sequence[_Cell], gap_bytes: int) -> list[list[_Cell]]:
    """Group cells that lie at most `gap_bytes` apart."""
    runs: list[list[_Cell]] = []
    for cell in cells:
        if runs and cell.start - runs[-1][-1].stop <= gap_bytes:
            runs[-1].append(cell)
        else:
            runs.append([cell])
    return runs


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
        self._bounds = cut(own, CELL_BYTES if origin.cache is None else CACHED_CELL_BYTES)
        # Lists, so that the shard's index may be forgotten, and for one number they are many times faster.
        columns = (own[name].tolist() for name in ("offset", "length", "label", "crc"))
        self._entries: list[tuple[int, int, int, int]] = list(zip(*columns, strict=True))
        self._bound_list: list[int] = self._bounds.tolist()
        self._cells: dict[int, _Cell | _Fetched] = {}

    def need(self, record_ids: npt.NDArray[np.int64], priority: float) -> int:
        """Begin to fetch records of this block that were not asked for before; return the bytes that this adds."""
        places = record_ids - self._first
        wanted = np.unique(np.searchsorted(self._bounds, places, side="right") - 1).tolist()
        new = [number for number in wanted if number not in self._cells]
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
        cells = [_Cell(*self._span(number)) for number in numbers]
        self._cells.update(zip(numbers, cells, strict=True))
        self._origin.cache.read(self._origin.fetcher, self._shard.key, cells, priority)

    def _span(self, number: int) -> tuple[int, int]:
        """Return the first byte of a cell in its shard, and the one behind its last."""
        offset, length, _, _ = self._entries[self._bound_list[number + 1] - 1]
        return self._entries[self._bound_list[number]][0], offset + length

    def take(self, record_id: int) -> example.Record:
        """Return a record that `need` was called for, waiting for it; checked, and read again where it is wrong.

        Raises:
            errors.DataCorruptError: it is wrong in the store too; names shard, record and offset.
            errors.StorageError: the store failed.
            concurrent.futures.CancelledError: `cancel` was called.
        """
        place = record_id - self._first
        offset, length, label, crc = self._entries[place]
        cell = self._cells[bisect.bisect_right(self._bound_list, place) - 1]
        try:
            return record_batch.open_frame(cell.bytes_of(offset, length), label, crc)
        except errors.DataCorruptError as e:
            logger.warning("%s is read again: it %s", self._name(record_id, offset), e)
        if self._origin.cache is not None and isinstance(cell, _Cell):
            self._origin.cache.discard(cell.cache_key(self._shard.key))

        def read() -> example.Record:
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


def cut(entries: shard_index.Entries, cell_bytes: int) -> npt.NDArray[np.int64]:
    """Return where a block's cells begin, as places in it, and its number of records behind the last."""
    cells = max(1, round(int(entries["length"].sum(dtype=np.int64)) / cell_bytes))
    return np.unique(np.arange(cells + 1) * len(entries) // cells)
