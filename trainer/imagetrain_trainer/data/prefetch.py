"""Reading ahead of the training loop, bounded in bytes, with the consumer's waiting time measured."""

import collections
import concurrent.futures
import threading
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from imagetrain_trainer.data import reader


class Prefetcher(Iterator[reader.RecordBatch]):
    """Iterates over batches in order while later ones are being read.

    New reads start whenever the consumer takes a batch, up to `max_bytes` of stored bytes ahead (known from the index
    before a read begins) and `max_batches`, and always at least one batch. An error of a read is raised when its
    batch's turn comes. One consumer at a time. Close it, or use it in a `with` block, to end its threads.
    """

    def __init__(
        self,
        source: reader.DatasetReader,
        record_ids: Iterable[npt.NDArray[np.integer[Any]]],
        *,
        max_bytes: int = 64 * 1024 * 1024,
        max_batches: int = 32,
        concurrent_reads: int = 2,
    ) -> None:
        """Begin to read.

        Args:
            source: of the records; it stays open when this is closed.
            record_ids: the record ids of each batch, such as a sampler's steps; consumed lazily.
            max_bytes: most stored bytes that are read and not yet taken.
            max_batches: most batches that are; small records reach this bound first.
            concurrent_reads: batches being read at the same time, at least 1.
        """
        self._source = source
        self._record_ids = iter(record_ids)
        self._max_bytes = max_bytes
        self._max_batches = max_batches
        self._pool = concurrent.futures.ThreadPoolExecutor(concurrent_reads, "imagetrain-read-ahead")
        self._pending: collections.deque[tuple[int, concurrent.futures.Future[reader.RecordBatch]]] = (
            collections.deque()
        )
        self._pending_bytes = 0
        self._waiting: npt.NDArray[np.integer[Any]] | None = None  # the next batch, which did not fit yet
        self._stall_seconds = 0.0
        self._is_closed = False
        self._lock = threading.Lock()
        with self._lock:
            self._fill()

    @property
    def stall_seconds(self) -> float:
        """Seconds that the consumer has waited for batches so far."""
        return self._stall_seconds

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> reader.RecordBatch:
        """Return the next batch.

        Raises:
            StopIteration: all batches are read, or this is closed, by any thread.
            errors.TrainerError: reading it failed.
        """
        with self._lock:
            self._fill()
            if not self._pending:
                raise StopIteration
            size_bytes, future = self._pending.popleft()
        started = time.monotonic()
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise StopIteration from None
        except BaseException:
            self.close()
            raise
        finally:
            with self._lock:
                self._stall_seconds += time.monotonic() - started
                self._pending_bytes -= size_bytes
                self._fill()

    def _fill(self) -> None:
        """Start reads until the bound is reached. The lock is held."""
        while not self._is_closed and len(self._pending) < self._max_batches:
            if self._waiting is None:
                self._waiting = next(self._record_ids, None)
            if self._waiting is None:
                return
            size_bytes = self._source.size_bytes(self._waiting)
            if self._pending and self._pending_bytes + size_bytes > self._max_bytes:
                return
            self._pending.append((size_bytes, self._pool.submit(self._source.read, self._waiting)))
            self._pending_bytes += size_bytes
            self._waiting = None

    def close(self) -> None:
        """Drop what is read ahead and wait for the reads under way; a consumer in another thread gets StopIteration."""
        with self._lock:
            self._is_closed = True
            self._pending.clear()
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
