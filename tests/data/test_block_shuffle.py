"""The order of an epoch by blocks: any stretch of it is the one that sorting the whole epoch gives."""

import hypothesis
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import strategies as st

from imagetrain_trainer.data import block_shuffle, blocks, class_weights, hashing

shard_records = st.lists(st.integers(0, 400), min_size=1, max_size=6).filter(any)
block_records = st.integers(1, 200)
seeds = st.integers(-(2**63), 2**64)
epochs = st.integers(0, 5)


def plan(counts: list[int], most: int) -> blocks.Layout:
    """Plan blocks of at most `most` records, shuffled by blocks however small the split is."""
    return blocks.plan(counts, sum(counts), most, resident_bytes=0)


def draw(layout: blocks.Layout, seed: int, epoch: int) -> block_shuffle.Draws:
    """Draw three classes of unlike sizes equally often."""
    labels = hashing.hash_u64(seed, np.arange(layout.records)) % np.uint64(9)
    return class_weights.ClassWeights.balanced(np.minimum(labels.astype(np.int32), 2), 3).draws(seed, epoch)


def sort_whole_lanes(
    layout: blocks.Layout, seed: int, epoch: int, draws: block_shuffle.Draws | None
) -> list[list[int]]:
    """Order all lanes by the module's four rules, record by record, with one sort over each whole strand."""
    copies = np.ones(layout.records, int) if draws is None else draws
    ranges = [layout.block_range(block) for block in block_shuffle._permute(layout.blocks, seed, epoch).tolist()]
    turns = [hashing.hash_u64(seed, epoch, 113, layout.block_of(np.array(span[0]))) % 2 for span in ranges]
    drawn = [
        np.repeat(np.arange(*span), copies[slice(*span)])[:: -1 if turn else 1].tolist()
        for span, turn in zip(ranges, turns, strict=True)
    ]
    canonical = [(j, record_id) for j, ids in enumerate(drawn) for record_id in ids]
    count = sum(map(bool, drawn))
    lanes, strands = min(4, count), block_shuffle._count_strands(len(canonical) // count)
    result, first = [], 0
    for lane in range(lanes):
        here = canonical[first : first + -(-(len(canonical) - lane) // lanes)]
        words = [int(hashing.hash_u64(seed, epoch, 112, first + place)) for place in range(len(here))]
        result.append(sort_whole_lane(here, words, strands))
        first += len(here)
    return result


def sort_whole_lane(here: list[tuple[int, int]], words: list[int], strands: int) -> list[int]:
    blocks_here = sorted({j for j, _ in here})
    residues = [int(f"{k:b}".zfill(strands.bit_length() - 1)[::-1], 2) for k in range(strands)]
    order, dealt, place = [-1] * len(here), [[] for _ in range(strands)], 0
    for slot, j in enumerate(blocks_here):
        places = [q for q, (block, _) in enumerate(here) if block == j]
        for k in range(strands):
            size = sum(q % strands == residues[k] for q in places)
            for q in sorted(range(place, place + size), key=lambda q: (words[q] >> 40, q)):
                rank = len(dealt[k])
                to = min(max(slot + rank % 3 - 1, 0), len(blocks_here) - 1)
                dealt[k].append((to, words[q] % 2**24, rank, here[q][1]))
            place += size
    for k in range(strands):
        for i, (*_, record_id) in enumerate(sorted(dealt[k])):
            order[i * strands + residues[k]] = record_id
    return order


@hypothesis.given(shard_records, block_records, seeds, epochs, st.booleans())
@hypothesis.settings(max_examples=60, deadline=None)
def test_a_stretch_is_what_sorting_the_whole_lane_gives(counts, most, seed, epoch, is_weighted):
    layout = plan(counts, most)
    draws = draw(layout, seed, epoch) if is_weighted else None
    order = block_shuffle.BlockOrder(layout, seed, epoch, draws)
    lanes = sort_whole_lanes(layout, seed, epoch, draws)
    assert order.lanes == len(lanes)
    start = 0
    for size in (1, 7, 64, 600, layout.records):  # from a step's few records to more than a piece
        stop = min(start + size, layout.records)
        expected = [lanes[position % len(lanes)][position // len(lanes)] for position in range(start, stop)]
        assert sorted(order.read(start, stop).tolist()) == sorted(expected)
        start = stop % layout.records


@hypothesis.given(shard_records, block_records, seeds, epochs, st.integers(20, 300))
@hypothesis.settings(max_examples=60, deadline=None)
def test_the_order_does_not_depend_on_how_much_is_worked_out_at_once(counts, most, seed, epoch, piece):
    layout = plan(counts, most)
    order, other = (block_shuffle.BlockOrder(layout, seed, epoch) for _ in range(2))
    other._piece_records = piece
    for start in range(0, layout.records, 50):
        stop = min(start + 50, layout.records)
        assert order.read(start, stop).tolist() == other.read(start, stop).tolist()


def read_lane(order: block_shuffle.BlockOrder, lane: int) -> npt.NDArray[np.int64]:
    return order._order_lane(lane, 0, order._lanes[lane].records)[0]


def count_open(numbers: npt.NDArray[np.int64], window: int) -> int:
    """Return the most blocks that are open in any stretch of `window` places: with a record in it, or on both sides."""
    _, firsts = np.unique(numbers, return_index=True)
    lasts = len(numbers) - 1 - np.unique(numbers[::-1], return_index=True)[1]
    starts = np.arange(max(len(numbers) - window, 0) + 1)[:, None]
    return int(((firsts < starts + window) & (lasts >= starts)).sum(axis=1).max())


@hypothesis.given(st.integers(1, 40), block_records, seeds, epochs, st.integers(0, 3))
@hypothesis.settings(deadline=None)
def test_a_lane_has_few_blocks_open(shards, most, seed, epoch, lane):
    layout = plan([most] * shards, most)
    order = block_shuffle.BlockOrder(layout, seed, epoch)
    numbers = layout.block_of(read_lane(order, lane % order.lanes))
    for window in (1, 16, 100):
        further = -(-(window - 1) // most)  # blocks that begin within the window
        assert count_open(numbers, window) <= block_shuffle.OPEN_BLOCKS + further


@hypothesis.given(shard_records, block_records, seeds, epochs, st.booleans())
@hypothesis.settings(deadline=None)
def test_records_stay_within_the_places_of_two_blocks_on_either_side(counts, most, seed, epoch, is_weighted):
    layout = plan(counts, most)
    order = block_shuffle.BlockOrder(layout, seed, epoch, draw(layout, seed, epoch) if is_weighted else None)
    for number, lane in enumerate(order._lanes):
        slots = np.empty(layout.blocks, np.int64)
        slots[lane.blocks] = np.arange(len(lane.blocks))
        slot = slots[layout.block_of(read_lane(order, number))]
        places = np.arange(lane.records)
        assert (places >= lane.starts[np.maximum(slot - 2, 0)] - order.strands).all()
        assert (places < lane.starts[np.minimum(slot + 3, len(lane.blocks))] + order.strands).all()


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 5, 8, 16, 32])
def test_workers_read_little_twice(world_size):
    layout = plan([610] * 30, 77)
    order = block_shuffle.BlockOrder(layout, 1, 0)
    spans = 0
    batches = [order.read(start, start + 64) for start in range(0, layout.records - 63, 64)]
    for rank in range(world_size):
        ids = np.concatenate([batch[rank * 64 // world_size : (rank + 1) * 64 // world_size] for batch in batches])
        ids.sort()
        numbers = layout.block_of(ids)
        first, last = np.flatnonzero(np.diff(numbers, prepend=-1)), np.flatnonzero(np.diff(numbers, append=-1))
        spans += int((ids[last] - ids[first] + 1).sum())  # from a worker's first to its last record of each block
    assert spans <= 1.06 * layout.records


def test_every_record_comes_at_any_time_of_an_epoch():
    layout = plan([100, 50, 77, 3], 20)
    places = np.empty((400, layout.records))
    for epoch in range(400):
        order = block_shuffle.BlockOrder(layout, 7, epoch)
        for lane in range(order.lanes):
            ids = read_lane(order, lane)
            places[epoch, ids] = np.arange(len(ids)) / len(ids)
    # Means of 400 uniform numbers: 0.5, with a standard error of 0.0144.
    assert abs(places.mean(axis=0) - 0.5).max() < 5 * 0.0144
    assert abs(places.std(axis=0) - np.sqrt(1 / 12)).max() < 0.05


def test_blocks_are_permuted_uniformly():
    counts = np.zeros((5, 5), int)
    for epoch in range(2000):
        counts[np.arange(5), block_shuffle._permute(5, 3, epoch)] += 1
    assert abs(counts - 400).max() < 5 * np.sqrt(2000 * 0.2 * 0.8)


@pytest.mark.parametrize(("size", "strands"), [(1, 1), (15, 1), (16, 2), (76, 8), (127, 8), (128, 16), (10_000, 16)])
def test_a_strand_has_eight_records_of_a_block_or_more(size, strands):
    assert block_shuffle._count_strands(size) == strands


@pytest.mark.parametrize("most", [3, 2**34])  # the latter leaves too few bits for the index
def test_records_are_sorted_by_group_and_hash_and_keep_their_order_in_a_tie(most):
    random = np.random.default_rng(0)
    groups, words = random.choice([0, 1, most], 1000), random.integers(0, 50, 1000).astype(np.uint64)
    np.testing.assert_array_equal(block_shuffle._sort(groups, words), np.lexsort((words, groups)))
