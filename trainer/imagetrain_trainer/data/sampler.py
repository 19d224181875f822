"""Which records make up which step: pure functions of (seed, step), without I/O, state or clock.

An epoch is an order of the split's records, cut into `steps_per_epoch` batches of near-equal size. The worker count
enters last and only slices a batch, so it never changes what a step holds; a mid-epoch resume needs the step alone.
"""

import enum
import threading
from typing import Protocol

import numpy as np
import numpy.typing as npt

from imagetrain_trainer.data import block_shuffle, blocks, class_weights, hashing
from imagetrain_trainer.data.streams import Stream

_CACHED_EPOCHS = 2  # the epoch being read and the one that read-ahead has begun


class Order(enum.Enum):
    """How an epoch orders the records."""

    SHUFFLED = "shuffled"
    """Anew in each epoch: a small split as a whole, a large one by blocks (see `block_shuffle`)."""
    STORED = "stored"
    """As stored, for validation and test."""


class _EpochOrder(Protocol):
    def read(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Return the record ids at positions [start, stop) of the epoch."""


class Sampler:
    """The batches of all epochs over one split. Thread-safe.

    Batch b of an epoch holds the positions b * records // steps to (b + 1) * records // steps of the epoch's order, so
    each record appears exactly once an epoch (or as often as the class weights say), sizes differ by one at most, and
    none exceeds `global_batch_size`.
    """

    def __init__(
        self,
        layout: blocks.Layout,
        global_batch_size: int,
        seed: int = 0,
        *,
        order: Order = Order.SHUFFLED,
        weights: class_weights.ClassWeights | None = None,
    ) -> None:
        """Plan the epochs.

        Args:
            layout: blocks of the split, which has at least 1 record.
            global_batch_size: most records in a step, over all workers.
            seed: of the orders; any integer.
            order: of an epoch.
            weights: how often each record comes in a shuffled epoch; None: once. The epoch's length stays the same.

        Raises:
            ValueError: a count is below 1, or the weights are for another split or for the stored order.
        """
        for name, value in (("records", layout.records), ("global_batch_size", global_batch_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value!r}.")
        if weights is not None and weights.records != layout.records:
            raise ValueError(f"weights must be for {layout.records} records, got {weights.records!r}.")
        if weights is not None and order is not Order.SHUFFLED:
            raise ValueError(f"order must be {Order.SHUFFLED} where there are weights, got {order!r}.")
        self.layout = layout
        self.records = layout.records
        self.global_batch_size = global_batch_size
        self.seed = seed
        self.order = order
        self.steps_per_epoch = -(-self.records // global_batch_size)
        self._weights = weights
        self._epochs: dict[int, _EpochOrder] = {}
        self._lock = threading.Lock()

    def position(self, step: int) -> tuple[int, int]:
        """Return (epoch, step in the epoch) of a global step; all count from 0.

        Raises:
            ValueError: the step is negative.
        """
        if step < 0:
            raise ValueError(f"step must be 0 or more, got {step!r}.")
        return divmod(step, self.steps_per_epoch)

    def batch_records(self, step: int) -> npt.NDArray[np.int64]:
        """Return the record ids of a global step, shape (1..global_batch_size,).

        Records that lie together come together, so that the contiguous parts of the workers read little twice.
        """
        epoch, _ = self.position(step)
        positions = self.batch_positions(step)
        if self.order is Order.STORED:
            return np.arange(positions.start, positions.stop, dtype=np.int64)
        return self._epoch_order(epoch).read(positions.start, positions.stop)

    def batch_positions(self, step: int) -> range:
        """Return the positions in its epoch of a global step's samples, in the order of `batch_records`."""
        _, batch = self.position(step)
        return range(batch * self.records // self.steps_per_epoch, (batch + 1) * self.records // self.steps_per_epoch)

    def worker_records(self, step: int, rank: int, world_size: int) -> npt.NDArray[np.int64]:
        """Return one worker's contiguous part of a step's record ids; empty when workers outnumber the records."""
        batch = self.batch_records(step)
        return batch[slice_for(len(batch), rank, world_size)]

    def worker_positions(self, step: int, rank: int, world_size: int) -> npt.NDArray[np.int64]:
        """Return the positions in its epoch of one worker's part of a step: (samples of `worker_records`,).

        A sample has the same at any number of workers, and a record that comes several times in an epoch has several.
        """
        batch = self.batch_positions(step)
        part = batch[slice_for(len(batch), rank, world_size)]
        return np.arange(part.start, part.stop, dtype=np.int64)

    def _epoch_order(self, epoch: int) -> _EpochOrder:
        # Other threads wait here, rather than do the same work, while one makes an epoch's order.
        with self._lock:
            known = self._epochs.pop(epoch, None)
            self._epochs[epoch] = known or self._make_order(epoch)
            while len(self._epochs) > _CACHED_EPOCHS:
                self._epochs.pop(next(iter(self._epochs)))
            return self._epochs[epoch]

    def _make_order(self, epoch: int) -> _EpochOrder:
        draws = self._weights.draws(self.seed, epoch) if self._weights else None
        if not self.layout.is_resident:
            return block_shuffle.BlockOrder(self.layout, self.seed, epoch, draws)
        words = hashing.hash_u64(self.seed, epoch, Stream.PERMUTATION, np.arange(self.records))
        permutation = np.argsort(words, kind="stable").astype(np.int64, copy=False)
        if draws is not None:
            permutation = np.repeat(np.arange(self.records), draws)[permutation]
        return _WholeOrder(permutation)


class _WholeOrder:
    """An order that is held as a whole."""

    def __init__(self, record_ids: npt.NDArray[np.int64]) -> None:
        self._record_ids = record_ids
        self._record_ids.flags.writeable = False

    def read(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        return self._record_ids[start:stop]


def slice_for(size: int, rank: int, world_size: int) -> slice:
    """Return a worker's part [rank * size // world_size, (rank + 1) * size // world_size) of `size` items.

    The parts are contiguous, in rank order, cover every item exactly once, and differ in size by one at most.

    Raises:
        ValueError: the rank is not in [0, world_size).
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be in [0, {world_size}), got {rank!r}.")
    return slice(rank * size // world_size, (rank + 1) * size // world_size)
