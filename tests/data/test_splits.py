"""What a split is made of: counts by largest remainders, and groups that go where their classes are missing."""

import collections

import hypothesis
import pytest
from hypothesis import strategies as st

from imagetrain_trainer import errors
from imagetrain_trainer.data import splits

RATIOS = {"train": 3, "validation": 1, "test": 1}


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


@pytest.mark.parametrize(
    ("ratios", "given", "wanted"),
    [
        ((3, 1, 1), (), {"train": 3, "validation": 1, "test": 1}),
        ((3, 1, 1), ("test",), {"train": 3, "validation": 1}),
        ((3, 0, 1), ("test",), {"train": 3}),
        ((3, 1, 1), ("train", "validation", "test"), {}),
    ],
)
def test_splits_that_the_source_gives_are_not_filled(ratios, given, wanted):
    assert splits.choose_wanted(dict(zip(RATIOS, ratios, strict=True)), given) == wanted


@pytest.mark.parametrize(
    ("counts", "rule"),
    [
        ({"a": 10}, r"must have at least 2 classes, got \['a'\]"),
        ({"a": 10, "b": 2}, "class 'b' must have at least 3 groups, one for each split, got 2. Add groups"),
        ({"a": 10, "b": 0, "c": 10}, "class 'b' must have at least 3 groups, one for each split, got 0"),
    ],
)
def test_a_class_too_small_is_named(counts, rule):
    with pytest.raises(errors.ConfigError, match=rule):
        splits.check_classes(counts, counts, 3, unit="groups")


def place_all(groups, ratios=RATIOS):
    images, holders = collections.Counter(), collections.Counter()
    for group in groups:
        images.update(group)
        holders.update(group.keys())
    placer = splits.GroupPlacer(images, holders, ratios)
    placed = collections.defaultdict(collections.Counter)
    for group in sorted(groups, key=lambda group: -sum(group.values())):
        placed[placer.place(group)].update(group)
    return placed, placer.find_missing()


@hypothesis.given(st.lists(st.integers(1, 9), min_size=3, max_size=40))
def test_groups_of_one_class_leave_no_split_empty(sizes):
    placed, missing = place_all([{0: size} for size in sizes])
    assert missing is None
    assert sum(counts[0] for counts in placed.values()) == sum(sizes)


@hypothesis.given(
    st.lists(st.dictionaries(st.integers(0, 3), st.integers(1, 5), min_size=1), min_size=100, max_size=300)
)
def test_many_small_groups_come_near_the_shares(groups):
    placed, _ = place_all(groups)
    total = sum(sum(group.values()) for group in groups)
    largest = max(sum(group.values()) for group in groups)
    for name, share in (("train", 0.6), ("validation", 0.2), ("test", 0.2)):
        assert abs(sum(placed[name].values()) - share * total) <= 4 * largest


def test_the_last_groups_of_a_class_go_where_it_is_missing():
    """Class 1 is in three small groups, each with many more images of class 0."""
    groups = [{0: 50, 1: 1}, {0: 40, 1: 1}, {0: 30, 1: 1}, *({0: 20},) * 20]
    placed, missing = place_all(groups)
    assert missing is None
    assert [placed[name][1] for name in RATIOS] == [1, 1, 1]
