"""Where a split is cut into blocks: runs of records of one shard that are read together. Pure arithmetic, no I/O.

The cut follows from `dataset.json` alone, so every worker, and every run at any worker count, has the same blocks.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from imagetrain_trainer.data import dataset

BLOCK_BYTES = 8 * 1024 * 1024
"""Bytes of a block, about: the low end of the 8-16 MB ranges that AWS advises for S3."""
RESIDENT_BYTES = 64 * 1024 * 1024
"""A split of at most this many bytes is shuffled as a whole, for a reader can hold all of it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """The blocks of one split, in stored order; block b holds the records first_records[b] to first_records[b + 1].

    Attributes:
        first_records: (blocks + 1,) int64, rising; the last entry is the split's number of records.
        shards: (blocks,) int64, number of the shard that holds each block.
        is_resident: whether the split is small enough to be shuffled as a whole.
    """

    first_records: npt.NDArray[np.int64]
    shards: npt.NDArray[np.int64]
    is_resident: bool

    @property
    def records(self) -> int:
        """Records in the split."""
        return int(self.first_records[-1])

    @property
    def blocks(self) -> int:
        """Number of blocks; none of them is empty."""
        return len(self.shards)

    def block_of(self, record_ids: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
        """Return the block of each record, of the shape of `record_ids`, which must be in [0, records)."""
        return np.searchsorted(self.first_records, record_ids, side="right") - 1

    def block_range(self, block: int) -> tuple[int, int]:
        """Return the first record of a block, and the one behind its last."""
        return int(self.first_records[block]), int(self.first_records[block + 1])

    def shard_of(self, block: int) -> int:
        """Return the number of the shard that holds a block."""
        return int(self.shards[block])


def plan(
    shard_records: Sequence[int],
    size_bytes: int,
    block_bytes: int = BLOCK_BYTES,
    resident_bytes: int = RESIDENT_BYTES,
) -> Layout:
    """Cut a split into blocks: each shard evenly, into as few as keep each at most `block_bytes` of average records.

    Args:
        shard_records: records of each shard, in order.
        size_bytes: of all shards.
        block_bytes: of a block of records of average size, rounded to whole records, one at least.
        resident_bytes: largest split that is shuffled as a whole.

    Raises:
        ValueError: a number is negative, or `block_bytes` is below 1.
    """
    counts = np.asarray(shard_records, np.int64).reshape(-1)
    if len(counts) and int(counts.min()) < 0:
        raise ValueError(f"shard_records must be 0 or more each, got {int(counts.min())!r}.")
    for name, value, least in (("size_bytes", size_bytes, 0), ("block_bytes", block_bytes, 1)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value!r}.")
    records = int(counts.sum())
    most = max(1, round(block_bytes * records / size_bytes)) if size_bytes else max(1, records)
    parts = -(-counts // most)
    shards = np.repeat(np.arange(len(counts)), parts)
    number = np.arange(len(shards)) - np.repeat(np.cumsum(parts) - parts, parts)
    starts = (np.cumsum(counts) - counts)[shards] + number * counts[shards] // parts[shards]
    firsts = np.append(starts, records).astype(np.int64, copy=False)
    firsts.flags.writeable = shards.flags.writeable = False
    return Layout(first_records=firsts, shards=shards, is_resident=size_bytes <= resident_bytes)


def plan_split(split: dataset.Split) -> Layout:
    """Cut a split of a packed data set into blocks."""
    return plan([shard.records for shard in split.shards], split.size_bytes)
