"""Dividing records among train, validation and test: stratified, seeded, and a pure function of keys and labels."""

import collections
import fractions
from collections.abc import Mapping, Sequence

from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset, hashing, sources

# Distinct uses of one seed must not share an order.
_SALT_SPLIT = "split:"
_SALT_ORDER = "order:"


def assign_splits(
    items: Sequence[sources.Item], class_names: Sequence[str], ratios: Mapping[str, float], seed: int
) -> dict[str, list[sources.Item]]:
    """Divide the items of each class by the ratios; an item whose split is given keeps it.

    With some test items given, the others are divided between train and validation alone. The items of each split come
    back in an order that is a hash of the seed and their keys, so that classes mix.

    Raises:
        errors.ConfigError: there are fewer than 2 classes, or a class has too few records for the splits.
    """
    given = {item.given_split for item in items} - {None}
    wanted = {name: ratio for name, ratio in ratios.items() if ratio > 0 and name not in given}
    parts: dict[str, list[sources.Item]] = {name: [] for name in dataset.SPLITS}
    by_class: dict[int, list[sources.Item]] = collections.defaultdict(list)
    for item in items:
        if item.given_split is None:
            by_class[item.label].append(item)
        else:
            parts[item.given_split].append(item)
    _check_classes(by_class, class_names, len(wanted))
    for members in by_class.values():
        shuffled, start = _shuffled(members, seed, _SALT_SPLIT), 0
        for name, count in allocate(len(members), wanted).items():
            parts[name] += shuffled[start : start + count]
            start += count
    return {name: _shuffled(members, seed, _SALT_ORDER) for name, members in parts.items()}


def _check_classes(by_class: Mapping[int, Sequence[sources.Item]], class_names: Sequence[str], splits: int) -> None:
    if len(class_names) < 2:
        raise errors.ConfigError(f"a data set must have at least 2 classes, got {list(class_names)!r}.")
    for label, name in enumerate(class_names):
        count = len(by_class.get(label, ()))
        if count < splits:
            raise errors.ConfigError(
                f"class {name!r} must have at least {splits} images, one for each split, got {count}. "
                "Add images, remove the class, or set a split's ratio to 0."
            )


def _shuffled(items: Sequence[sources.Item], seed: int, salt: str) -> list[sources.Item]:
    return sorted(items, key=lambda item: (hashing.hash_text(seed, salt + item.key), item.key))


def allocate(count: int, ratios: Mapping[str, float]) -> dict[str, int]:
    """Divide `count` by positive ratios: largest remainders first, and at least one each (count >= len(ratios))."""
    exact = {name: fractions.Fraction(ratio).limit_denominator(10**6) for name, ratio in ratios.items()}
    total = sum(exact.values())
    shares = {name: count * ratio / total for name, ratio in exact.items()}
    counts = {name: int(share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: counts[name] - shares[name])  # stable: ties go to the first split
    for name in by_remainder[: count - sum(counts.values())]:
        counts[name] += 1
    for name in [name for name, allocated in counts.items() if allocated == 0]:
        counts[max(counts, key=lambda other: counts[other])] -= 1
        counts[name] = 1
    return counts
