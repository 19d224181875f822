"""The cells of a block that go to the disk cache: looked up there, fetched where they are missing, and kept.

What another process of the node is fetching for the same cache is waited for, for a bounded time.
"""

import concurrent.futures
import functools
import logging
import time
from collections.abc import Sequence
from typing import Literal

from imagetrain_trainer import errors
from imagetrain_trainer.data import cache_claims, cache_entry, disk_cache
from imagetrain_trainer.storage import fetching

logger = logging.getLogger(__name__)

CELL_BYTES = 1024 * 1024
"""Bytes of a cell, about: the cache's unit, a file each."""
CLAIM_SECONDS = 2.0
"""Longest wait for a cell that another process of the node fetches; then it is fetched twice."""
_CACHE_THREADS = 4
_WAIT_THREADS = 4

Content = memoryview | cache_entry.OpenEntry
"""Bytes of a cell: in memory as they were fetched, or in the disk cache."""


class Cell:
    """Some neighbouring records of a block, on their way or here.

    Attributes:
        start: its first byte in the object.
        stop: the byte behind its last.
        claim: on fetching it for the node.
    """

    def __init__(self, start: int, stop: int) -> None:
        self.start, self.stop = start, stop
        self.claim = cache_claims.Claim()
        self._future: concurrent.futures.Future[Content] = concurrent.futures.Future()
        self._content: Content | None = None

    def cache_key(self, object_key: str) -> str:
        """Return its key in the disk cache."""
        return f"{object_key}/{self.start}-{self.stop}"

    def settle(self, content: Content) -> None:
        """Say that it is here; once."""
        if not self._future.done():
            self._future.set_result(content)

    def fail(self, error: BaseException) -> None:
        """Have whoever waits for it raise an error."""
        if not self._future.done():
            self._future.set_exception(error)

    def cancel(self) -> None:
        """Have whoever waits for it raise CancelledError."""
        self._future.cancel()

    def bytes_of(self, start: int, length: int) -> memoryview:
        """Return some of its bytes, by their place in the object, waiting for them; for one thread.

        Raises:
            errors.DataCorruptError: the disk of the cache failed.
        """
        content = self._content
        if content is None:
            content = self._content = self._future.result()
        if isinstance(content, memoryview):
            return content[start - self.start : start - self.start + length]
        try:
            return content.read(start - self.start, length)
        except OSError as e:
            raise errors.DataCorruptError(f"must be readable in the disk cache ({e.strerror})") from e


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

    def read(self, fetcher: fetching.Fetcher, object_key: str, cells: Sequence[Cell], priority: float) -> None:
        """Begin to fill the cells of one object, in the order of their place in it."""
        self._pool.submit(self._fill, fetcher, object_key, cells, priority)

    def _fill(self, fetcher: fetching.Fetcher, object_key: str, cells: Sequence[Cell], priority: float) -> None:
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

    def _look_up(self, cell: Cell, object_key: str) -> Literal["here", "missing", "elsewhere"]:
        """Settle a cell from the cache, or claim it."""
        key = cell.cache_key(object_key)
        found = self._cache.open(key)  # each record has a CRC, and is checked by it when it is taken
        if found is None:
            claim = self._cache.claim(key)
            if claim is None:
                return "elsewhere"
            # It may have come between the look and the claim.
            found = self._cache.open(key) if self._cache.holds(key) else None
            if found is None:
                cell.claim = claim
                return "missing"
            claim.release()
        cell.settle(found)
        return "here"

    def _await(self, fetcher: fetching.Fetcher, object_key: str, cell: Cell, priority: float, deadline: float) -> None:
        """Take a cell that another process fetches; it is fetched here when that one fails, or takes too long."""
        try:
            found = self._cache.wait(cell.cache_key(object_key), deadline - time.monotonic())
            if found is None:
                self._fetch(fetcher, object_key, [cell], priority)
            else:
                cell.settle(found)
        except BaseException as e:  # noqa: BLE001 - as `_fill`
            _give_up([cell], e)

    def _fetch(self, fetcher: fetching.Fetcher, object_key: str, cells: Sequence[Cell], priority: float) -> None:
        for run in _join(cells, gap_bytes=0):
            future = fetcher.get(object_key, run[0].start, run[-1].stop - run[0].start, priority)
            future.add_done_callback(functools.partial(self._take, object_key, run))

    def _take(self, object_key: str, run: Sequence[Cell], done: "concurrent.futures.Future[memoryview]") -> None:
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

    def _keep(self, object_key: str, run: Sequence[Cell], data: memoryview) -> None:
        for cell in run:
            with cell.claim:
                part = data[cell.start - run[0].start : cell.stop - run[0].start]
                self._cache.put(cell.cache_key(object_key), bytes(part))


def _hand_out(run: Sequence[Cell], done: "concurrent.futures.Future[memoryview]") -> None:
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


def _release(cells: Sequence[Cell]) -> None:
    for cell in cells:
        cell.claim.release()


def _give_up(cells: Sequence[Cell], error: BaseException) -> None:
    _release(cells)
    for cell in cells:
        cell.fail(error)


def _join(cells: Sequence[Cell], gap_bytes: int) -> list[list[Cell]]:
    """Group cells that lie at most `gap_bytes` apart."""
    runs: list[list[Cell]] = []
    for cell in cells:
        if runs and cell.start - runs[-1][-1].stop <= gap_bytes:
            runs[-1].append(cell)
        else:
            runs.append([cell])
    return runs
