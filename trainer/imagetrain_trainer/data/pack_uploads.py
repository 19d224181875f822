"""Writing shards in the background: a few at a time, so that memory stays bounded, and given back in order."""

import collections
import concurrent.futures
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

_THREADS = 2  # one shard's checksums overlap another's upload

_Result = TypeVar("_Result")


class Uploads(Generic[_Result]):
    """Runs writes in daemon threads: an interrupted pack need not wait for an upload that hangs."""

    def __init__(self, threads: int = _THREADS) -> None:
        self._threads = threads
        self._queue: queue.SimpleQueue[tuple[concurrent.futures.Future[_Result], Callable[[], _Result]] | None]
        self._queue = queue.SimpleQueue()
        self._pending: collections.deque[concurrent.futures.Future[_Result]] = collections.deque()
        for number in range(threads):
            threading.Thread(target=self._work, name=f"imagetrain-upload-{number}", daemon=True).start()

    def submit(self, write: Callable[[], _Result]) -> Iterator[_Result]:
        """Start a write; yield the results of earlier ones that are done, and wait for one when too many are under way.

        Raises:
            errors.StorageError: an earlier write failed.
        """
        while len(self._pending) >= self._threads:
            yield self._pending.popleft().result()
        future: concurrent.futures.Future[_Result] = concurrent.futures.Future()
        self._pending.append(future)
        self._queue.put((future, write))
        yield from self.collect()

    def collect(self) -> Iterator[_Result]:
        """Yield the results that are there by now, in the order in which the writes were started; raises likewise."""
        while self._pending and self._pending[0].done():
            yield self._pending.popleft().result()

    def drain(self) -> Iterator[_Result]:
        """Wait for all writes, and yield their results; raises likewise."""
        while self._pending:
            yield self._pending.popleft().result()

    def close(self) -> None:
        """Let the threads end; writes that have not begun are dropped."""
        for future in self._pending:
            future.cancel()
        for _ in range(self._threads):
            self._queue.put(None)

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            future, write = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(write())
            except BaseException as e:  # noqa: BLE001 - it is raised where the result is asked for
                future.set_exception(e)
            del task, future, write  # a shard of 64 MiB
