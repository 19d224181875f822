"""Choosing a few records of a split to look at: the same ones each time, from its indexes alone."""

import concurrent.futures
import dataclasses

import numpy as np
import numpy.typing as npt

from imagetrain_trainer import errors
from imagetrain_trainer.data import example, hashing, shard_index, shard_stream, tfrecord
from imagetrain_trainer.data.dataset import Dataset, Shard
from imagetrain_trainer.data.streams import Stream
from imagetrain_trainer.storage import store

_CONCURRENT_GETS = 8

Candidates = npt.NDArray[np.void]
"""Shape (n,): label, rank (a hash), shard number, record number in the shard, and the index entry's fields."""

_CANDIDATE = np.dtype(
    [("label", "<i4"), ("rank", "<u8"), ("shard", "<i4"), ("number", "<i8"), ("entry", shard_index.ENTRY)]
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A chosen record and where it lies."""

    record: example.Record
    key: str
    number: int


def choose_records(
    objects: store.ObjectStore, dataset: Dataset, split: str, *, count: int, seed: int, label: int | None = None
) -> list[Chosen]:
    """Read records of a split, evenly over its classes, or of one class; in the order of label and place.

    Shards are gone through one index at a time, so memory is bounded by `count` candidates a class.

    Args:
        objects: the data set's store.
        dataset: its description.
        split: "train", "validation" or "test".
        count: most records to choose.
        seed: of the choice.
        label: the one class, or None for all.

    Raises:
        errors.DataCorruptError: an index or a chosen record is damaged.
        errors.StorageError: the store failed.
    """
    shards = dataset.splits[split].shards
    kept = np.zeros(0, _CANDIDATE)
    first = 0
    with concurrent.futures.ThreadPoolExecutor(_CONCURRENT_GETS, "imagetrain-choose") as pool:
        for start in range(0, len(shards), _CONCURRENT_GETS):  # all at once would hold all indexes
            loaded = pool.map(lambda shard: _load_index(objects, shard), shards[start : start + _CONCURRENT_GETS])
            for shard_number, entries in enumerate(loaded, start):
                found = _candidates(entries, shard_number, first, seed)
                wanted = found if label is None else found[found["label"] == label]
                kept = _reduce(np.concatenate([kept, wanted]), count)
                first += len(entries)
        chosen = _take_by_turns(kept, count)
        records = pool.map(lambda row: _read(objects, shards[int(row["shard"])], row), chosen)
        return list(records)


def _load_index(objects: store.ObjectStore, shard: Shard) -> shard_index.Entries:
    try:
        return shard_stream.load_index(objects, shard)
    except errors.DataCorruptError as e:
        raise errors.DataCorruptError(f"{objects.uri_of(shard.index_key)} {e}. Run `imagetrain data verify`.") from e


def _candidates(entries: shard_index.Entries, shard_number: int, first: int, seed: int) -> Candidates:
    found = np.zeros(len(entries), _CANDIDATE)
    found["label"], found["entry"], found["shard"] = entries["label"], entries, shard_number
    found["number"] = np.arange(len(entries))
    found["rank"] = hashing.hash_u64(seed, Stream.SAMPLE, np.arange(first, first + len(entries)))
    return found


def _reduce(candidates: Candidates, count: int) -> Candidates:
    """Keep the `count` lowest ranks of each class."""
    order = np.lexsort((candidates["rank"], candidates["label"]))
    candidates = candidates[order]
    return candidates[_turns(candidates["label"]) < count]


def _take_by_turns(candidates: Candidates, count: int) -> Candidates:
    """Take the first of each class, then the second of each, until there are `count`; return them by label."""
    candidates = candidates[np.lexsort((candidates["rank"], candidates["label"]))]
    by_turns = np.lexsort((candidates["rank"], _turns(candidates["label"])))
    taken = candidates[by_turns[:count]]
    return taken[np.lexsort((taken["number"], taken["shard"], taken["label"]))]


def _turns(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Return how many equal labels stand before each of sorted ones: (n,) int64."""
    starts = np.searchsorted(labels, labels, side="left")
    return np.arange(len(labels)) - starts


def _read(objects: store.ObjectStore, shard: Shard, row: np.void) -> Chosen:
    offset, length, label, crc = row["entry"].item()
    number = int(row["number"])
    try:
        record = example.decode_record(tfrecord.unframe(objects.get_range(shard.key, offset, length), crc))
        shard_stream.check_label(record, label)
    except errors.DataCorruptError as e:
        raise errors.DataCorruptError(
            f"{objects.uri_of(shard.key)} record {number} at offset {offset} {e}. Run `imagetrain data verify`."
        ) from e
    return Chosen(record=record, key=shard.key, number=number)
