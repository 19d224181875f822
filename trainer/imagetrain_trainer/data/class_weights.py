"""How often each record of a split is drawn in an epoch when classes have weights: exact counts, without I/O or state.

Systematic resampling (Kitagawa, "Monte Carlo filter and smoother", 1996): a class gets a fixed number of draws T of
its n records, and its j-th record floor(((j + 1) T + u) / n) - floor((j T + u) / n) of them, all in integers. So a
record is drawn floor(T / n) or ceil(T / n) times, and the draws sum to T exactly. The phase u moves on by T with each
epoch: over E epochs, wherever they begin, a record is drawn floor(E T / n) or ceil(E T / n) times.
"""

import fractions
import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from imagetrain_trainer.data import hashing
from imagetrain_trainer.data.streams import Stream

_CHUNK_RECORDS = 1 << 18  # bounds the scratch memory to some 20 MB


class ClassWeights:
    """The labels of a split and the relative frequency of each class in an epoch.

    Holds the labels in one, two or four bytes each, as the number of classes asks for; draws take one byte a record
    unless a record is drawn more than 255 times an epoch.
    """

    def __init__(self, labels: npt.NDArray[np.integer[Any]], frequencies: Sequence[float]) -> None:
        """Divide an epoch among the classes.

        An epoch keeps the split's number of records. Class c has its share frequencies[c] / sum(frequencies), rounded
        to whole records by largest remainder; the same in every epoch.

        Args:
            labels: (records,) integers in [0, len(frequencies)).
            frequencies: of each class, relative to the others; 0 leaves a class out.

        Raises:
            ValueError: a frequency is negative, not finite, or above 0 for a class without records; all are 0; or a
                label is out of range.
        """
        classes = len(frequencies)
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise ValueError(f"labels must be in [0, {classes}), got {int(labels.min())} to {int(labels.max())}.")
        self._labels = labels.astype(np.min_scalar_type(max(classes - 1, 0)))
        self._counts = np.bincount(self._labels, minlength=classes)
        self.class_draws = _divide(len(labels), frequencies, self._counts)
        most = max((-(-int(t) // int(n)) for t, n in zip(self.class_draws, self._counts, strict=True) if n), default=0)
        self._draws_type = np.min_scalar_type(most)

    @classmethod
    def balanced(cls, labels: npt.NDArray[np.integer[Any]], classes: int) -> Self:
        """Give all classes that have records the same share of an epoch."""
        return cls(labels, [float(n > 0) for n in np.bincount(labels, minlength=classes)])

    @classmethod
    def of_images(cls, labels: npt.NDArray[np.integer[Any]], weights: Sequence[float]) -> Self:
        """Draw an image of class c weights[c] times as often as one of a class of weight 1."""
        counts = np.bincount(labels, minlength=len(weights))
        return cls(labels, [weight * int(count) for weight, count in zip(weights, counts, strict=True)])

    @property
    def records(self) -> int:
        """Records in the split, and draws in an epoch."""
        return len(self._labels)

    def draws(self, seed: int, epoch: int) -> npt.NDArray[np.unsignedinteger[Any]]:
        """Return how often each record is drawn in an epoch, (records,), of the smallest unsigned type that holds it.

        The draws of class c sum to class_draws[c]. Takes time in proportion to the split.
        """
        totals = self.class_draws
        counts: npt.NDArray[np.int64] = np.maximum(self._counts, 1)  # a class without records has no draws either
        words = hashing.hash_u64(seed, Stream.CLASS_PHASE, np.arange(len(counts)))
        phases = (words % counts.astype(np.uint64)).astype(np.int64)
        phases = (phases + np.int64(epoch) % counts * totals) % counts
        ranks_before = np.zeros(len(counts), np.int64)
        draws = np.empty(self.records, self._draws_type)
        for start in range(0, self.records, _CHUNK_RECORDS):
            labels = self._labels[start : start + _CHUNK_RECORDS]
            ranks = _rank_within_class(labels, ranks_before)
            low = ranks * totals[labels] + phases[labels]
            counts_here = counts[labels]
            draws[start : start + len(labels)] = (low + totals[labels]) // counts_here - low // counts_here
        return draws


def _rank_within_class(
    labels: npt.NDArray[np.integer[Any]], ranks_before: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Number the records of each class, from `ranks_before` (classes,), which moves on."""
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=len(ranks_before))
    starts = np.cumsum(counts) - counts
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) + np.repeat(ranks_before - starts, counts)
    ranks_before += counts
    return ranks


def _divide(records: int, frequencies: Sequence[float], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Divide an epoch's records among the classes, (classes,), by largest remainder; ties go to the lower label."""
    for label, (frequency, count) in enumerate(zip(frequencies, counts, strict=True)):
        if not (math.isfinite(frequency) and frequency >= 0):
            raise ValueError(f"frequencies[{label}] must be 0 or more and finite, got {frequency!r}.")
        if frequency and not count:
            raise ValueError(f"frequencies[{label}] must be 0, for class {label} has no records, got {frequency!r}.")
    # Fractions, so that no rounding of a sum can lose or add a record.
    exact = [fractions.Fraction(frequency) for frequency in frequencies]
    total = sum(exact)
    if not total:
        raise ValueError("frequencies must be above 0 for a class that has records, got 0 for all of them.")
    shares = [frequency * records / total for frequency in exact]
    draws = [math.floor(share) for share in shares]
    by_remainder = sorted(range(len(draws)), key=lambda label: (draws[label] - shares[label], label))
    for label in by_remainder[: records - sum(draws)]:
        draws[label] += 1
    return np.array(draws, np.int64)
