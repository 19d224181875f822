"""A split's blocks are runs of records of one shard, near-equal in size, and follow from dataset.json alone."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from imagetrain_trainer.data import blocks, dataset

shard_records = st.lists(st.integers(0, 300), min_size=1, max_size=8)


@hypothesis.given(shard_records, st.integers(1, 400))
def test_blocks_are_runs_of_one_shard_that_hold_every_record_once(counts, most):
    layout = blocks.plan(counts, 10 * sum(counts), 10 * most)
    assert layout.records == sum(counts)
    firsts = np.cumsum([0, *counts])
    ends = [layout.block_range(block) for block in range(layout.blocks)]
    assert [record for start, stop in ends for record in range(start, stop)] == list(range(layout.records))
    for block, (start, stop) in enumerate(ends):
        shard = layout.shard_of(block)
        assert firsts[shard] <= start < stop <= firsts[shard + 1]


@hypothesis.given(shard_records, st.integers(1, 400))
def test_a_shard_is_cut_evenly_into_as_few_blocks_as_possible(counts, most):
    layout = blocks.plan(counts, 10 * sum(counts), 10 * most)
    for shard, count in enumerate(counts):
        sizes = np.diff(layout.first_records)[layout.shards == shard]
        assert len(sizes) == -(-count // most)
        assert not count or max(sizes) - min(sizes) <= 1
        assert sizes.sum() == count


@hypothesis.given(shard_records.filter(any), st.integers(1, 400), st.data())
def test_every_record_is_in_its_block(counts, most, data):
    layout = blocks.plan(counts, 10 * sum(counts), 10 * most)
    ids = np.array(data.draw(st.lists(st.integers(0, layout.records - 1), max_size=20)), np.int64)
    for record_id, block in zip(ids.tolist(), layout.block_of(ids).tolist(), strict=True):
        start, stop = layout.block_range(block)
        assert start <= record_id < stop


@pytest.mark.parametrize(
    ("counts", "size_bytes", "block_bytes", "firsts", "shards"),
    [
        ([10], 100, 50, [0, 5, 10], [0, 0]),
        ([10], 100, 40, [0, 3, 6, 10], [0, 0, 0]),
        ([4, 0, 3], 70, 30, [0, 2, 4, 7], [0, 0, 2]),  # a shard without records has no block
        ([2], 1000, 1, [0, 1, 2], [0, 0]),  # a record larger than a block is a block of its own
        ([3], 0, 1, [0, 3], [0]),  # records of no bytes
        ([], 0, 1, [0], []),
        ([0], 0, 1, [0], []),
    ],
)
def test_small_plans(counts, size_bytes, block_bytes, firsts, shards):
    layout = blocks.plan(counts, size_bytes, block_bytes)
    assert layout.first_records.tolist() == firsts
    assert layout.shards.tolist() == shards
    assert layout.first_records.dtype == layout.shards.dtype == np.int64


def test_a_block_has_about_eight_mebibytes():
    layout = blocks.plan([600] * 100, 100 * 64 * 1024 * 1024)
    assert np.diff(layout.first_records).tolist() == [75] * 800
    assert not layout.is_resident


@pytest.mark.parametrize(("size_bytes", "is_resident"), [(64 * 1024 * 1024, True), (64 * 1024 * 1024 + 1, False)])
def test_a_split_that_fits_in_memory_is_shuffled_as_a_whole(size_bytes, is_resident):
    assert blocks.plan([1000], size_bytes).is_resident is is_resident


def test_a_packed_split_is_planned_from_its_shards():
    def shard(records: int, size_bytes: int) -> dataset.Shard:
        return dataset.Shard(
            key="a",
            records=records,
            size_bytes=size_bytes,
            crc32c=0,
            sha256="",
            index_key="b",
            index_size_bytes=0,
            index_crc32c=0,
        )

    shards = (shard(100, 60_000_000), shard(30, 18_000_000))
    layout = blocks.plan_split(dataset.Split(records=130, class_counts=(130,), shards=shards))
    expected = blocks.plan([100, 30], 78_000_000)
    assert layout.first_records.tolist() == expected.first_records.tolist()
    assert layout.shards.tolist() == expected.shards.tolist()
    assert layout.is_resident == expected.is_resident


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (([3, -1], 10, 10), "shard_records must be 0 or more each, got -1"),
        (([3], -1, 10), "size_bytes must be at least 0, got -1"),
        (([3], 10, 0), "block_bytes must be at least 1, got 0"),
    ],
)
def test_a_broken_rule_is_named(arguments, rule):
    with pytest.raises(ValueError, match=rule):
        blocks.plan(*arguments)
