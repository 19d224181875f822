"""Classes have exactly their share of an epoch, and the records of a class come equally often, give or take one."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from imagetrain_trainer.data import class_weights, hashing

seeds = st.integers(-(2**63), 2**64)


@st.composite
def weighted(draw: st.DrawFn) -> class_weights.ClassWeights:
    classes = draw(st.integers(1, 9))
    labels = np.array(draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=300)), np.int32)
    present = np.bincount(labels, minlength=classes) > 0
    frequencies = [draw(st.floats(0.001, 1000)) if is_present else 0.0 for is_present in present]
    return class_weights.ClassWeights(labels, frequencies)


@hypothesis.given(weighted(), seeds, st.integers(0, 10**6))
def test_the_draws_of_each_class_are_exact_and_even(weights, seed, epoch):
    draws, labels = weights.draws(seed, epoch), weights._labels
    assert int(draws.sum(dtype=np.int64)) == weights.records == len(draws)
    for label, total in enumerate(weights.class_draws.tolist()):
        of_class = draws[labels == label].astype(int)
        assert of_class.sum() == total
        if len(of_class):
            assert total // len(of_class) <= of_class.min() <= of_class.max() <= -(-total // len(of_class))


@hypothesis.given(weighted(), seeds, st.integers(0, 1000), st.integers(1, 12))
def test_over_many_epochs_too_a_record_comes_as_often_as_another_of_its_class(weights, seed, first, epochs):
    draws = sum(weights.draws(seed, epoch).astype(int) for epoch in range(first, first + epochs))
    for label, total in enumerate(weights.class_draws.tolist()):
        of_class = draws[weights._labels == label]
        assert not len(of_class) or of_class.max() - of_class.min() <= 1
        assert of_class.sum() == epochs * total


@hypothesis.given(weighted(), seeds, st.integers(1, 50))
def test_the_draws_do_not_depend_on_the_chunks_they_are_worked_out_in(weights, seed, chunk):
    whole = weights.draws(seed, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_weights, "_CHUNK_RECORDS", chunk)
        np.testing.assert_array_equal(weights.draws(seed, 3), whole)


def test_balanced_classes_have_the_same_share():
    labels = np.repeat([0, 1, 3], [900, 90, 10])  # class 2 has no records
    weights = class_weights.ClassWeights.balanced(labels, 4)
    assert weights.class_draws.tolist() == [334, 333, 0, 333]  # what is left over goes to the lowest label
    draws = weights.draws(0, 0)
    assert np.bincount(labels, draws).tolist() == [334, 333, 0, 333]
    assert sorted(set(draws[:900].tolist())) == [0, 1]
    assert sorted(set(draws[990:].tolist())) == [33, 34]


def test_a_class_may_be_left_out():
    weights = class_weights.ClassWeights(np.array([0, 0, 1, 1, 2]), [0, 3, 2])
    assert weights.class_draws.tolist() == [0, 3, 2]
    assert weights.draws(1, 0)[:2].tolist() == [0, 0]


def test_an_image_of_twice_the_weight_comes_twice_as_often():
    labels = np.repeat([0, 1], [400, 100])
    assert class_weights.ClassWeights.of_images(labels, [1, 2]).class_draws.tolist() == [333, 167]
    same = class_weights.ClassWeights.of_images(labels, [0.5, 0.5])
    assert same.class_draws.tolist() == [400, 100]
    assert set(same.draws(0, 0).tolist()) == {1}


def test_frequencies_may_be_of_any_magnitude():
    labels = np.arange(1000) % 2
    for frequencies in ((1e-300, 1e-300), (1e300, 1e300), (5e-324, 5e-324)):
        assert class_weights.ClassWeights(labels, frequencies).class_draws.tolist() == [500, 500]
    assert class_weights.ClassWeights(labels, (1e-300, 1e300)).class_draws.tolist() == [0, 1000]


@pytest.mark.parametrize(
    ("classes", "labels_type", "most", "draws_type"),
    [
        (2, np.uint8, 2, np.uint8),
        (256, np.uint8, 255, np.uint8),
        (257, np.uint16, 256, np.uint16),
        (70_000, np.uint32, 69_999, np.uint32),
    ],
)
def test_labels_and_draws_take_few_bytes(classes, labels_type, most, draws_type):
    labels = np.append(np.zeros(1, np.int64), np.full(most - 1, classes - 1))
    weights = class_weights.ClassWeights(labels, [1.0] + [0.0] * (classes - 1))
    assert weights._labels.dtype == labels_type
    draws = weights.draws(0, 0)
    assert draws.dtype == draws_type
    assert draws[0] == most


def test_the_draws_never_change_between_versions():
    labels = np.array([0, 1, 0, 0, 2, 0, 0, 1, 0, 0])
    weights = class_weights.ClassWeights.balanced(labels, 3)
    assert [weights.draws(42, epoch).tolist() for epoch in range(3)] == [
        [0, 1, 1, 0, 3, 1, 1, 2, 0, 1],
        [1, 2, 0, 1, 3, 1, 0, 1, 1, 0],
        [0, 1, 1, 1, 3, 0, 1, 2, 0, 1],
    ]


def test_seeds_choose_other_records():
    labels = (hashing.hash_u64(1, np.arange(500)) % np.uint64(10) == 0).astype(int)
    weights = class_weights.ClassWeights.balanced(labels, 2)
    assert len({weights.draws(seed, 0).tobytes() for seed in range(20)}) > 1


@pytest.mark.parametrize(
    ("labels", "frequencies", "rule"),
    [
        ([0, 2], [1, 1], r"labels must be in \[0, 2\), got 0 to 2"),
        ([-1, 0], [1, 1], r"labels must be in \[0, 2\), got -1 to 0"),
        ([0, 1], [1, -1], r"frequencies\[1\] must be 0 or more and finite, got -1"),
        ([0, 1], [float("nan"), 1], r"frequencies\[0\] must be 0 or more and finite, got nan"),
        ([0, 1], [1, float("inf")], r"frequencies\[1\] must be 0 or more and finite, got inf"),
        ([0, 0], [1, 1], r"frequencies\[1\] must be 0, for class 1 has no records, got 1"),
        ([0, 1], [0, 0], "frequencies must be above 0 for a class that has records, got 0 for all"),
    ],
)
def test_a_broken_rule_is_named(labels, frequencies, rule):
    with pytest.raises(ValueError, match=rule):
        class_weights.ClassWeights(np.array(labels), frequencies)
