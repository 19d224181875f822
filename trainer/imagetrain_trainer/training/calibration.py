"""Which training images set the ranges of an int8 model: the same for the same data set, number and seed."""

import numpy as np
from numpy import typing as npt

from imagetrain_trainer.data import hashing, reader
from imagetrain_trainer.data.streams import Stream

MOST_SHARDS = 64
"""Shards that images are chosen from: of a larger split, reading every index would take longer than calibrating."""


def choose(train: reader.DatasetReader, samples: int, seed: int) -> npt.NDArray[np.int64]:
    """Choose images evenly over the classes, as far as the shards have them whose indexes are read.

    Of a split of more than `MOST_SHARDS` shards that many are drawn, or more where they hold too few images.

    Returns:
        (n,) int64 record ids in rising order, n <= samples.

    Raises:
        errors.DataCorruptError, errors.StorageError: an index cannot be read.
    """
    ids, labels = _read_labels(train, choose_shards([shard.records for shard in train.origin.shards], samples, seed))
    return ids[choose_places(labels, samples, seed)]


def choose_shards(records: list[int], samples: int, seed: int) -> list[int]:
    """Draw `MOST_SHARDS` shards, or as many as hold that many samples; all where there are no more: in rising order.

    Args:
        records: of each shard.
        samples: that are needed.
        seed: any integer.
    """
    if len(records) <= MOST_SHARDS:
        return list(range(len(records)))
    words = hashing.hash_u64(seed, Stream.CALIBRATION_SHARDS, np.arange(len(records)))
    order = np.argsort(words, kind="stable")
    enough = int(np.searchsorted(np.cumsum(np.asarray(records)[order]), samples)) + 1
    return sorted(order[: max(MOST_SHARDS, enough)].tolist())


def choose_places(labels: npt.NDArray[np.int32], samples: int, seed: int) -> npt.NDArray[np.int64]:
    """Choose evenly over the classes: (n,) int64 places among the labels in rising order, n <= samples."""
    order = np.argsort(hashing.hash_u64(seed, Stream.CALIBRATION, np.arange(len(labels))), kind="stable")
    rank_in_class = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank_in_class[members] = np.arange(len(members))
    by_turns = np.lexsort((labels, rank_in_class))  # first of each class, then second of each, ...
    return np.sort(by_turns[:samples])


def _read_labels(train: reader.DatasetReader, shards: list[int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Return the ids and labels of all records of some shards."""
    origin = train.origin
    for number in shards:
        origin.indexes.request(number)
    labels = [origin.indexes.entries(number)["label"] for number in shards]
    ids = [
        np.arange(len(part), dtype=np.int64) + origin.first_records[number]
        for number, part in zip(shards, labels, strict=True)
    ]
    return np.concatenate(ids), np.concatenate(labels).astype(np.int32)
