"""Fetching byte ranges of many objects at a time, by priority, past whatever the storage does.

    get(key, start, length) -> parts -> queue by priority -> `part_reads` (hedges, retries) -> `range_reads` (one GET)

One background thread runs an event loop; callers wait on futures from any thread. The policies (`hedging`, `retrying`,
`concurrency`) are pure. Checksums are the reader's part: this hands out what the store sent.
"""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import heapq
import itertools
import threading
import weakref
from types import TracebackType
from typing import Self

import uvloop

from imagetrain_trainer.storage import (
    concurrency,
    fetch_counters,
    hedging,
    object_store,
    part_reads,
    retrying,
)

Future = concurrent.futures.Future


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FetchOptions:
    """How much is asked of the store at a time, and how its trouble is met."""

    part_bytes: int = 8 * 1024 * 1024
    """A longer range is cut into about this much per request, evenly; AWS advises 8 to 16 MB."""
    max_bytes: int = 64 * 1024 * 1024
    """Most bytes under way; a single larger part goes alone."""
    limits: concurrency.ConcurrencyOptions = dataclasses.field(default_factory=concurrency.ConcurrencyOptions)
    """How many requests are under way."""
    hedges: hedging.HedgeOptions = dataclasses.field(default_factory=hedging.HedgeOptions)
    """When late bytes are asked for a second time."""
    retries: retrying.RetryOptions = dataclasses.field(default_factory=retrying.RetryOptions)
    """How failures are met."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("part_bytes", "max_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)!r}.")


class _Fetch:
    """A range that was asked for; its parts arrive in any order. For the loop's thread alone."""

    def __init__(self, future: "Future[memoryview]", parts: list[part_reads.Part]) -> None:
        self.future, self.parts = future, parts
        self.tasks: set[asyncio.Task[None]] = set()
        self._left = len(parts)
        self._buffer = bytearray(sum(part.length for part in parts)) if len(parts) > 1 else None

    def take(self, part: part_reads.Part, data: memoryview) -> None:
        """Keep a part's bytes; the last one completes the future."""
        self._left -= 1
        if self._buffer is not None:
            offset = part.start - self.parts[0].start
            self._buffer[offset : offset + part.length] = data
            data = memoryview(self._buffer)
        if not self._left:
            with contextlib.suppress(concurrent.futures.InvalidStateError):  # cancelled meanwhile
                self.future.set_result(data)

    def fail(self, error: BaseException) -> None:
        """Give up: the other parts are of no use."""
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            self.future.set_exception(error)
        self.stop()

    def stop(self) -> None:
        """End the requests that are under way."""
        for task in self.tasks:
            task.cancel()


class Fetcher:
    """Reads byte ranges of one store's objects. Thread-safe; close it, or use it in a `with` block.

    An object's ETag (for a file: inode, time and size) is pinned by its first answer, so that the bytes of a run never
    mix two versions.
    """

    def __init__(self, objects: object_store.ObjectStore, options: FetchOptions | None = None) -> None:
        """Start the background thread; the first request is made by the first `get`."""
        self._options = options = options or FetchOptions()
        self._reads = objects.open_range_reads(options.limits.most)
        hedges = options.hedges if self._reads.is_remote else dataclasses.replace(options.hedges, fraction=0)
        self._hedges = hedging.HedgePolicy(hedges)
        self._limit = concurrency.AdaptiveLimit(options.limits)
        self._queue: list[tuple[float, int, _Fetch, part_reads.Part]] = []
        self._numbers = itertools.count()
        self._lock = threading.Lock()  # of the queue, and of whether this is closed
        self._is_closed = self._is_woken = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._bytes_under_way = 0
        self._loop = uvloop.new_event_loop()  # a microsecond less for each record of 110 KB
        self._stop = asyncio.Event()
        self._reader = part_reads.PartReader(
            self._reads, self._hedges, retrying.RetryPolicy(options.retries), self._limit, self._loop
        )
        self._thread = threading.Thread(target=self._run, name="imagetrain-fetch", daemon=True)
        self._thread.start()

    def get(self, key: str, start: int, length: int, priority: float = 0) -> "Future[memoryview]":
        """Ask for bytes `start` to `start + length` of an object.

        Args:
            key: the object.
            start: first byte.
            length: bytes, at least 1.
            priority: lowest first, such as the step at which the bytes are needed; equal ones in the order of asking.

        Returns:
            a future of `length` bytes, a read-only or writable view of memory that nobody else uses. Cancelling it
            ends its requests. Its exceptions: `errors.DataCorruptError` (the object is shorter, or was replaced),
            `errors.StorageUnavailableError` (after `RetryOptions.give_up_seconds`), `errors.AccessDeniedError`,
            `errors.BucketNotFoundError`, `errors.ObjectNotFoundError`, `errors.DiskFullError`.

        Raises:
            ValueError: the range is empty or negative.
            RuntimeError: this is closed.
        """
        if start < 0 or length < 1:
            raise ValueError(f"range must start at 0 or later and hold a byte, got start={start} and length={length}.")
        future: Future[memoryview] = Future()
        fetch = _Fetch(future, plan_parts(key, start, length, self._options.part_bytes))
        with self._lock:
            if self._is_closed:
                raise RuntimeError(f"the fetcher of {self._reads.uri_of(key)} is closed.")
            for part in fetch.parts:
                heapq.heappush(self._queue, (priority, next(self._numbers), fetch, part))
            if not self._is_woken:
                self._is_woken = True
                self._loop.call_soon_threadsafe(self._dispatch)
        # A strong reference would make a circle of both, and blocks of bytes would stay until it is collected.
        asked = weakref.ref(fetch)
        future.add_done_callback(lambda done: self._on_cancelled(asked()) if done.cancelled() else None)
        return future

    def _on_cancelled(self, fetch: _Fetch | None) -> None:
        with self._lock:
            if fetch is not None and not self._is_closed:
                self._loop.call_soon_threadsafe(fetch.stop)

    def _dispatch(self) -> None:
        """Begin the parts whose turn it is, as far as the limits allow."""
        self._is_woken = False
        while len(self._tasks) < self._limit.limit:
            with self._lock:
                if not self._queue:
                    return
                priority, _, fetch, part = self._queue[0]
                is_room = not self._tasks or self._bytes_under_way + part.length <= self._options.max_bytes
                if not is_room:
                    return
                heapq.heappop(self._queue)
            if not fetch.future.done():
                self._begin(fetch, part, priority)

    def _begin(self, fetch: _Fetch, part: part_reads.Part, priority: float) -> None:
        task = self._loop.create_task(self._serve(fetch, part, priority))
        self._tasks.add(task)
        fetch.tasks.add(task)
        self._bytes_under_way += part.length
        task.add_done_callback(lambda _: self._end(fetch, part, task))

    async def _serve(self, fetch: _Fetch, part: part_reads.Part, priority: float) -> None:
        try:
            data = await self._reader.read(part, priority, lambda: len(self._tasks))
        except asyncio.CancelledError:  # this is closed, or the fetch ended otherwise
            fetch.future.cancel()
            raise
        except Exception as e:  # noqa: BLE001 - whatever it is, it belongs to who waits for the bytes
            fetch.fail(e)
        else:
            self._reader.tally.bytes += part.length
            fetch.take(part, data)

    def _end(self, fetch: _Fetch, part: part_reads.Part, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        fetch.tasks.discard(task)
        self._bytes_under_way -= part.length
        self._dispatch()

    @property
    def counters(self) -> fetch_counters.FetchCounters:
        """What was done so far."""
        return fetch_counters.FetchCounters(
            **dataclasses.asdict(self._reader.tally),
            latency_p50_seconds=self._hedges.first_bytes.at(0.5),
            latency_p99_seconds=self._hedges.first_bytes.at(0.99),
            concurrency_limit=self._limit.limit,
            under_way=len(self._tasks),
            bytes_under_way=self._bytes_under_way,
            queued=len(self._queue),
        )

    def close(self) -> None:
        """End all requests at once, cancel the futures that wait, and end the thread."""
        with self._lock:
            was_closed, self._is_closed = self._is_closed, True
            if not was_closed:
                self._loop.call_soon_threadsafe(self._stop.set)
        if threading.current_thread() is not self._thread:  # a future's callback runs there
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._stop.wait())
            self._loop.run_until_complete(self._cancel_all())
        finally:
            self._loop.close()  # a diagnosis that still runs on its thread ends there, unheard
            self._reads.close()

    async def _cancel_all(self) -> None:
        waiting = [fetch for _, _, fetch, _ in self._queue]
        self._queue.clear()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for fetch in waiting:
            fetch.future.cancel()


def plan_parts(key: str, start: int, length: int, part_bytes: int) -> list[part_reads.Part]:
    """Cut a range into parts of nearly the same length, each at most 1.5 times `part_bytes`.

    A little more than one part is left whole, for its bytes then need not be copied together.
    """
    count = max(1, round(length / part_bytes))
    bounds = [start + length * number // count for number in range(count + 1)]
    return [part_reads.Part(key, begin, end - begin) for begin, end in itertools.pairwise(bounds)]
