"""Reading ahead of the training loop: whole blocks in the order of their first use, bounded in bytes.

One thread plans the batches to come, asks for the blocks that they need, and puts batches together in their order. A
block is asked for once with all its records that the planned batches use, and dropped after the last of these. So the
bytes held are those of the blocks that the sampler has open, those read ahead, and a few finished batches.
"""

import collections
import concurrent.futures
import dataclasses
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from imagetrain_trainer.data import block_reads, reader, record_batch

_PLANNED_BYTES = 128 * 1024 * 1024
"""Bytes of batches planned beyond those asked for: a sampler uses up a block within 12 blocks of 8 MiB."""
_PLANNED_AT_ONCE_BYTES = 32 * 1024 * 1024
"""What is planned at a time: code that runs once a batch has left the processor's caches by the next one."""
_PLANNED_BATCHES = 8192
_READY_BATCHES = 3


@dataclasses.dataclass(slots=True)
class _Batch:
    """A batch on its way: its place in the order, its ids, also as a list, the block of each, and all blocks once."""

    number: int
    ids: npt.NDArray[np.int64]
    id_list: list[int]
    blocks: list[int]
    used: list[int]


class _Plan:
    """The batches to come and the blocks that they need: `fill`, `ask` and `take` are for one thread."""

    def __init__(
        self, source: reader.DatasetReader, record_ids: Iterator[npt.NDArray[np.integer[Any]]], ahead_bytes: int
    ) -> None:
        self._source = source
        self._record_ids = record_ids
        self._ahead_bytes = ahead_bytes
        self._record_bytes = source.mean_record_bytes
        self._planned: collections.deque[_Batch] = collections.deque()
        self._planned_bytes = 0.0
        self._planned_uses: collections.Counter[int] = collections.Counter()
        self._wanted: dict[int, list[int]] = collections.defaultdict(list)
        self._asked: collections.deque[_Batch] = collections.deque()
        self._asked_uses: collections.Counter[int] = collections.Counter()
        self._open: dict[int, block_reads.BlockRead] = {}
        self._unused_bytes: dict[int, int] = {}  # of open blocks that no batch was made of yet
        self._numbers = 0
        self._is_over = False

    def fill(self) -> None:
        """Plan batches up to the bounds, where fewer are left than there should be."""
        if self._planned_bytes >= _PLANNED_BYTES:
            return
        most_bytes = _PLANNED_BYTES + _PLANNED_AT_ONCE_BYTES
        while not self._is_over and self._planned_bytes < most_bytes and len(self._planned) < _PLANNED_BATCHES:
            ids = next(self._record_ids, None)
            if ids is None:
                self._is_over = True
                return
            self._add(np.asarray(ids, np.int64))

    def _add(self, ids: npt.NDArray[np.int64]) -> None:
        id_list, numbers = ids.tolist(), self._source.layout.block_of(ids).tolist()
        for record_id, block in zip(id_list, numbers, strict=True):
            self._wanted[block].append(record_id)
        used = sorted(set(numbers))
        for block in used:
            self._planned_uses[block] += 1
            if block not in self._open:
                self._source.origin.indexes.request(self._source.layout.shard_of(block), priority=self._numbers)
        self._planned.append(_Batch(self._numbers, ids, id_list, numbers, used))
        self._numbers += 1
        self._planned_bytes += len(id_list) * self._record_bytes

    def ask(self) -> None:
        """Ask for the blocks of planned batches, until enough bytes are ahead."""
        while self._planned and (not self._asked or sum(self._unused_bytes.values()) < self._ahead_bytes):
            batch = self._planned.popleft()
            self._planned_bytes -= len(batch.id_list) * self._record_bytes
            for block in batch.used:
                self._ask_for(block, priority=batch.number)
                self._asked_uses[block] += 1
                _decrement(self._planned_uses, block)
            self._asked.append(batch)
            self.fill()

    def _ask_for(self, block: int, priority: int) -> None:
        wanted = self._wanted.pop(block, None)
        if wanted is None:
            return
        if block not in self._open:
            self._open[block] = block_reads.BlockRead(self._source.origin, block)
            self._unused_bytes[block] = 0
        added = self._open[block].need(wanted, priority)
        if block in self._unused_bytes:
            self._unused_bytes[block] += added

    def take(self) -> reader.RecordBatch | None:
        """Make the next batch, waiting for its records; None after the last."""
        if not self._asked:
            return None
        batch = self._asked[0]
        places = zip(batch.id_list, batch.blocks, strict=True)
        records = [self._open[block].take(record_id) for record_id, block in places]
        self._asked.popleft()
        for block in batch.used:
            self._unused_bytes.pop(block, None)
            _decrement(self._asked_uses, block)
            if block not in self._asked_uses and block not in self._planned_uses:
                del self._open[block]
        return record_batch.build(batch.ids, records)

    def cancel(self) -> None:
        """Drop what is on its way; for any thread."""
        self._source.origin.indexes.cancel()
        for read in list(self._open.values()):
            read.cancel()


def _decrement(uses: "collections.Counter[int]", block: int) -> None:
    uses[block] -= 1
    if not uses[block]:
        del uses[block]


class Prefetcher(Iterator[reader.RecordBatch]):
    """Iterates over batches in order while later ones are being read.

    An error of a read is raised when its batch's turn comes. One consumer at a time. Close it, or use it in a `with`
    block, to end its thread.
    """

    def __init__(
        self,
        source: reader.DatasetReader,
        record_ids: Iterable[npt.NDArray[np.integer[Any]]],
        *,
        ahead_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        """Begin to read.

        Args:
            source: of the records; it stays open when this is closed.
            record_ids: the record ids of each batch, such as a sampler's steps; consumed lazily.
            ahead_bytes: bytes of blocks that are asked for before the first of their records is due.
        """
        self._source = source
        self._ids = iter(record_ids)
        self._plan = _Plan(source, self._ids, ahead_bytes)
        # Queues in C: the waiting of a Condition, in Python, takes a microsecond for each record of a batch of 64.
        self._ready: queue.SimpleQueue[reader.RecordBatch | BaseException | None] = queue.SimpleQueue()
        self._places: queue.SimpleQueue[None] = queue.SimpleQueue()  # that are free among the ready batches
        for _ in range(_READY_BATCHES):
            self._places.put(None)
        self._stall_seconds = 0.0
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="imagetrain-read-ahead", daemon=True)
        self._thread.start()

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
        if self._is_closed:
            raise StopIteration
        started = time.monotonic()
        first = self._ready.get()
        self._stall_seconds += time.monotonic() - started
        if self._is_closed:
            raise StopIteration
        if isinstance(first, record_batch.RecordBatch):
            self._places.put(None)
            return first
        if first is None:
            self._ready.put(None)  # for whoever asks again
            raise StopIteration
        self.close()
        raise first

    def _run(self) -> None:
        """Fill the queue until the batches or their reader end, or one fails."""
        try:
            while True:
                batch = self._make()
                self._places.get()
                if self._is_closed:
                    return
                self._ready.put(batch)
                if batch is None:
                    return
        except concurrent.futures.CancelledError as e:
            self._ready.put(None if self._is_closed else e)
        except BaseException as e:  # noqa: BLE001 - the consumer raises it
            self._ready.put(e)

    def _make(self) -> reader.RecordBatch | None:
        if self._source.is_resident:
            ids = next(self._ids, None)
            return None if ids is None else self._source.read(ids)
        self._plan.fill()
        self._plan.ask()
        return self._plan.take()

    def close(self) -> None:
        """Drop what is read ahead and end the thread; a consumer in another thread gets StopIteration."""
        self._is_closed = True
        self._places.put(None)  # wakes the thread
        self._ready.put(None)  # and the consumer
        while self._thread.is_alive() and self._thread is not threading.current_thread():
            self._plan.cancel()  # again for what the thread has asked for meanwhile
            self._thread.join(timeout=0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
