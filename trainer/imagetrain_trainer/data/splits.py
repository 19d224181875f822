"""Dividing records among train, validation and test: stratified, seeded, and a pure function of keys and classes.

Which record goes where, and in what order records lie, is decided by the hashes here. Sorting by them is the work of
`pack_partition`, which need not hold the records in memory.
"""

import fractions
from collections.abc import Collection, Mapping

from imagetrain_trainer import errors
from imagetrain_trainer.data import hashing

# Distinct uses of one seed must not share an order.
_SALT_SPLIT = "split:"
_SALT_ORDER = "order:"
_SALT_GROUP = "group:"


def split_hash(seed: int, key: str) -> int:
    """Return the 64 bits by which the records of a class are sorted before they are divided; ties go by key."""
    return hashing.hash_text(seed, _SALT_SPLIT + key)


def order_hash(seed: int, key: str) -> int:
    """Return the 64 bits by which the records of a split are sorted in its shards, so that classes mix; ties by key."""
    return hashing.hash_text(seed, _SALT_ORDER + key)


def group_hash(seed: int, group: str) -> int:
    """Return the 64 bits by which groups of equal size are sorted."""
    return hashing.hash_text(seed, _SALT_GROUP + group)


def choose_wanted(ratios: Mapping[str, float], given: Collection[str]) -> dict[str, float]:
    """Return the ratios of the splits that packing fills: those above 0 that the source does not give."""
    return {name: ratio for name, ratio in ratios.items() if ratio > 0 and name not in given}


def check_classes(class_names: Collection[str], available: Mapping[str, int], splits: int, *, unit: str) -> None:
    """Check that each class can be divided.

    Args:
        class_names: in label order.
        available: images or groups to divide, by class.
        splits: to be filled.
        unit: what is divided, "images" or "groups".

    Raises:
        errors.ConfigError: there are fewer than 2 classes, or a class has too few.
    """
    if len(class_names) < 2:
        raise errors.ConfigError(f"a data set must have at least 2 classes, got {list(class_names)!r}.")
    for name in class_names:
        count = available.get(name, 0)
        if count < splits:
            raise errors.ConfigError(
                f"class {name!r} must have at least {splits} {unit}, one for each split, got {count}. "
                f"Add {unit}, remove the class, or set a split's ratio to 0."
            )


def allocate(count: int, ratios: Mapping[str, float]) -> dict[str, int]:
    """Divide `count` by positive ratios: largest remainders first, and at least one each (count >= len(ratios))."""
    shares = _shares(count, ratios)
    counts = {name: int(share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: counts[name] - shares[name])  # stable: ties go to the first split
    for name in by_remainder[: count - sum(counts.values())]:
        counts[name] += 1
    for name in [name for name, allocated in counts.items() if allocated == 0]:
        counts[max(counts, key=lambda other: counts[other])] -= 1
        counts[name] = 1
    return counts


def _shares(count: int, ratios: Mapping[str, float]) -> dict[str, fractions.Fraction]:
    exact = {name: fractions.Fraction(ratio).limit_denominator(10**6) for name, ratio in ratios.items()}
    total = sum(exact.values())
    return {name: count * ratio / total for name, ratio in exact.items()}


class GroupPlacer:
    """Places whole groups, one after the other, so that each split comes near its share of every class.

    A group goes where its classes are missing most, measured by each split's own share. A split that still lacks a
    class comes first once no more groups of that class are left than splits that lack it. Place the largest groups
    first: the small ones even out what those leave. The shares are approximate, and no group is ever parted.
    """

    def __init__(self, images: Mapping[int, int], groups: Mapping[int, int], ratios: Mapping[str, float]) -> None:
        """Prepare for all groups.

        Args:
            images: of all groups together, by class.
            groups: that hold a class, by class.
            ratios: of the splits to fill, each above 0.
        """
        self._splits = tuple(ratios)
        self._shares = {
            label: tuple(float(share) for share in _shares(count, ratios).values()) for label, count in images.items()
        }
        self._placed = {label: [0] * len(ratios) for label in images}
        self._groups_left = dict(groups)

    def place(self, counts: Mapping[int, int]) -> str:
        """Return the split of the next group, which holds `counts` images by class."""
        scores = [0.0] * len(self._splits)
        urgent = [0] * len(self._splits)
        for label, count in counts.items():
            placed, shares = self._placed[label], self._shares[label]
            is_urgent = self._groups_left[label] <= placed.count(0)
            for index, share in enumerate(shares):
                scores[index] += count * (share - placed[index]) / share
                urgent[index] += is_urgent and placed[index] == 0
            self._groups_left[label] -= 1
        best = max(range(len(self._splits)), key=lambda index: (urgent[index], scores[index]))
        for label, count in counts.items():
            self._placed[label][best] += count
        return self._splits[best]

    def find_missing(self) -> tuple[int, str] | None:
        """Return a class and a split that got none of it, or None when there is no such pair."""
        for label, placed in self._placed.items():
            for index, count in enumerate(placed):
                if count == 0:
                    return label, self._splits[index]
        return None
