"""Which records make up which step: pure functions of (seed, step), without I/O, state or clock.

An epoch is a permutation of the split's records, cut into `steps_per_epoch` batches of near-equal size. The worker
count enters last and only slices a batch, so it never changes what a step holds; a mid-epoch resume needs the step
alone.
"""

import numpy as np
import numpy.typing as npt

from imagetrain_trainer.data import hashing

_STREAM_PERMUTATION = 1
_CACHED_EPOCHS = 2  # the epoch being read and the one that read-ahead has begun


class Sampler:
    """The batches of all epochs over one split.

    Batch b of an epoch holds the permuted records from b * records // steps to (b + 1) * records // steps, so each
    record appears exactly once an epoch, sizes differ by one at most, and none exceeds `global_batch_size`.
    """

    def __init__(self, records: int, global_batch_size: int, seed: int = 0, *, shuffle: bool = True) -> None:
        """Plan the epochs.

        Args:
            records: records in the split, at least 1.
            global_batch_size: most records in a step, over all workers.
            seed: of the permutations; any integer.
            shuffle: False keeps the stored order, for validation and test.

        Raises:
            ValueError: a count is below 1.
        """
        for name, value in (("records", records), ("global_batch_size", global_batch_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value!r}.")
        self.records = records
        self.global_batch_size = global_batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.steps_per_epoch = -(-records // global_batch_size)
        self._permutations: dict[int, npt.NDArray[np.int64]] = {}

    def position(self, step: int) -> tuple[int, int]:
        """Return (epoch, step in the epoch) of a global step; all count from 0.

        Raises:
            ValueError: the step is negative.
        """
        if step < 0:
            raise ValueError(f"step must be 0 or more, got {step!r}.")
        return divmod(step, self.steps_per_epoch)

    def batch_records(self, step: int) -> npt.NDArray[np.int64]:
        """Return the record ids of a global step, shape (1..global_batch_size,)."""
        epoch, batch = self.position(step)
        start = batch * self.records // self.steps_per_epoch
        stop = (batch + 1) * self.records // self.steps_per_epoch
        if not self.shuffle:
            return np.arange(start, stop, dtype=np.int64)
        return self.permutation(epoch)[start:stop]

    def worker_records(self, step: int, rank: int, world_size: int) -> npt.NDArray[np.int64]:
        """Return one worker's contiguous part of a step's record ids; empty when workers outnumber the records."""
        batch = self.batch_records(step)
        return batch[slice_for(len(batch), rank, world_size)]

    def permutation(self, epoch: int) -> npt.NDArray[np.int64]:
        """Return all record ids in the epoch's order, shape (records,), read-only; the last epochs are kept."""
        known = self._permutations.get(epoch)
        if known is not None:
            return known
        words = hashing.hash_u64(self.seed, epoch, _STREAM_PERMUTATION, np.arange(self.records))
        order = np.argsort(words, kind="stable").astype(np.int64, copy=False)
        order.flags.writeable = False
        # A fresh dict, so that another thread's look-up never sees one change size.
        kept = list(self._permutations.items())[1 - _CACHED_EPOCHS :]
        self._permutations = dict([*kept, (epoch, order)])
        return order


def slice_for(size: int, rank: int, world_size: int) -> slice:
    """Return a worker's part [rank * size // world_size, (rank + 1) * size // world_size) of `size` items.

    The parts are contiguous, in rank order, cover every item exactly once, and differ in size by one at most.

    Raises:
        ValueError: the rank is not in [0, world_size).
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be in [0, {world_size}), got {rank!r}.")
    return slice(rank * size // world_size, (rank + 1) * size // world_size)
