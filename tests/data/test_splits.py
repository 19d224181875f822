"""The split: stratified, seeded, and blind to the order in which images were found."""

import collections
import itertools
import random

import hypothesis
import pytest
from hypothesis import strategies as st

from imagetrain_trainer import errors
from imagetrain_trainer.data import sources, splits

RATIOS = {"train": 3, "validation": 1, "test": 1}


def make_items(*counts, given=None):
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    return [sources.Item(f"{label}/{number}", label, given, number) for number, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("count", "ratios", "expected"),
    [
        (5, (3, 1, 1), (3, 1, 1)),
        (10, (3, 1, 1), (6, 2, 2)),
        (7, (3, 1, 1), (4, 2, 1)),  # exact 4.2, 1.4, 1.4: the tie goes to the first
        (3, (3, 1, 1), (1, 1, 1)),
        (4, (98, 1, 1), (2, 1, 1)),
        (100, (0.8, 0.1, 0.1), (80, 10, 10)),
        (1, (1,), (1,)),
    ],
)
def test_counts_follow_the_largest_remainders(count, ratios, expected):
    assert tuple(splits.allocate(count, dict(zip(RATIOS, ratios, strict=False))).values()) == expected


@hypothesis.given(st.integers(3, 10_000), st.tuples(*[st.integers(1, 1000)] * 3))
def test_counts_add_up_and_leave_no_split_empty(count, ratios):
    counts = splits.allocate(count, dict(zip(RATIOS, ratios, strict=True)))
    assert sum(counts.values()) == count
    assert min(counts.values()) >= 1


def test_each_class_is_divided_alike():
    parts = splits.assign_splits(make_items(50, 5, 10), ("a", "b", "c"), RATIOS, 0)
    counts = {name: collections.Counter(item.label for item in items) for name, items in parts.items()}
    assert counts == {"train": {0: 30, 1: 3, 2: 6}, "validation": {0: 10, 1: 1, 2: 2}, "test": {0: 10, 1: 1, 2: 2}}


def test_the_order_of_the_source_does_not_matter_and_the_seed_does():
    items = make_items(20, 20)
    shuffled = random.Random(1).sample(items, len(items))
    parts = splits.assign_splits(items, ("a", "b"), RATIOS, 7)
    assert splits.assign_splits(shuffled, ("a", "b"), RATIOS, 7) == parts
    assert splits.assign_splits(items, ("a", "b"), RATIOS, 8) != parts


def test_classes_mix_in_the_stored_order():
    labels = [item.label for item in splits.assign_splits(make_items(500, 500), ("a", "b"), RATIOS, 0)["train"]]
    runs = 1 + sum(a != b for a, b in itertools.pairwise(labels))
    assert abs(runs - 300) < 60  # 600 coin tosses have 300.5 runs on average


def test_a_given_split_is_kept_and_the_rest_divided():
    items = make_items(40, 40) + [item._replace(key=f"t{item.key}") for item in make_items(5, 7, given="test")]
    parts = splits.assign_splits(items, ("a", "b"), RATIOS, 0)
    assert {name: len(part) for name, part in parts.items()} == {"train": 60, "validation": 20, "test": 12}
    assert all(item.given_split == "test" for item in parts["test"])


def test_a_split_of_ratio_zero_is_empty():
    parts = splits.assign_splits(make_items(4, 4), ("a", "b"), {"train": 3, "validation": 1, "test": 0}, 0)
    assert {name: len(part) for name, part in parts.items()} == {"train": 6, "validation": 2, "test": 0}


@pytest.mark.parametrize(
    ("counts", "names", "rule"),
    [
        ((10,), ("a",), r"must have at least 2 classes, got \['a'\]"),
        ((10, 2), ("a", "b"), "class 'b' must have at least 3 images, one for each split, got 2"),
        ((10, 0, 10), ("a", "b", "c"), "class 'b' must have at least 3 images, one for each split, got 0"),
    ],
)
def test_a_class_too_small_is_named(counts, names, rule):
    with pytest.raises(errors.ConfigError, match=rule):
        splits.assign_splits(make_items(*counts), names, RATIOS, 0)
