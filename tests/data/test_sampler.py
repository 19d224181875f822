"""Every record exactly once an epoch, in an order that knows nothing of the workers."""

import concurrent.futures

import hypothesis
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import strategies as st

from imagetrain_trainer.data import blocks, class_weights, hashing, sampler

records = st.integers(1, 3000)
batch_sizes = st.integers(1, 700)
seeds = st.integers(-(2**63), 2**64)
world_sizes = st.integers(1, 64)


def small(count: int) -> blocks.Layout:
    """Plan a split that is shuffled as a whole."""
    return blocks.plan([count], 100 * count)


def large(shards: list[int], most: int) -> blocks.Layout:
    """Plan a split that is shuffled by blocks of at most `most` records."""
    return blocks.plan(shards, 100 * sum(shards), 100 * most, resident_bytes=0)


layouts = st.one_of(
    records.map(small),
    st.builds(large, st.lists(st.integers(0, 500), min_size=1, max_size=7).filter(any), st.integers(1, 200)),
)


def balance(layout: blocks.Layout) -> class_weights.ClassWeights:
    """Draw four classes, of about 1/15, 2/15, 4/15 and 8/15 of the records, equally often."""
    numbers = hashing.hash_u64(np.arange(layout.records)) % np.uint64(15) + np.uint64(1)
    return class_weights.ClassWeights.balanced(np.log2(numbers).astype(np.int32), 4)


def read_epoch(plan: sampler.Sampler, epoch: int) -> list[npt.NDArray[np.int64]]:
    first = epoch * plan.steps_per_epoch
    return [plan.batch_records(step) for step in range(first, first + plan.steps_per_epoch)]


@hypothesis.given(layouts, batch_sizes, seeds, st.integers(0, 5), st.sampled_from(sampler.Order))
@hypothesis.settings(deadline=None)
def test_an_epoch_holds_every_record_exactly_once(layout, batch_size, seed, epoch, order):
    plan = sampler.Sampler(layout, batch_size, seed, order=order)
    batches = read_epoch(plan, epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(layout.records))
    sizes = {len(batch) for batch in batches}
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert plan.steps_per_epoch == -(-layout.records // batch_size)


def test_ten_thousand_seeds_hold_every_record_exactly_once():
    for seed in range(10_000):
        shards = [seed % 7, 1 + seed % 11, seed % 29]
        plan = sampler.Sampler(large(shards, 1 + seed % 13), sum(shards), seed)
        ids = plan.batch_records(seed % 5)
        assert np.bincount(ids, minlength=plan.records).tolist() == [1] * plan.records, seed


@hypothesis.given(layouts, batch_sizes, seeds, st.integers(0, 50), world_sizes)
@hypothesis.settings(deadline=None)
def test_the_workers_parts_make_up_the_batch_in_rank_order(layout, batch_size, seed, step, world_size):
    plan = sampler.Sampler(layout, batch_size, seed)
    parts = [plan.worker_records(step, rank, world_size) for rank in range(world_size)]
    assert np.concatenate(parts).tolist() == plan.batch_records(step).tolist()
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    positions = [plan.worker_positions(step, rank, world_size) for rank in range(world_size)]
    assert [len(part) for part in positions] == sizes
    assert np.concatenate(positions).tolist() == list(plan.batch_positions(step))


@hypothesis.given(records, batch_sizes, st.integers(0, 3))
def test_the_positions_of_an_epochs_steps_count_through_it(count, batch_size, epoch):
    plan = sampler.Sampler(small(count), batch_size)
    steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
    assert [position for step in steps for position in plan.batch_positions(step)] == list(range(count))


@hypothesis.given(layouts, batch_sizes, seeds, st.integers(0, 200), st.booleans())
@hypothesis.settings(deadline=None)
def test_a_step_is_the_same_however_it_is_reached(layout, batch_size, seed, step, is_weighted):
    weights = balance(layout) if is_weighted else None
    walked, jumped = (sampler.Sampler(layout, batch_size, seed, weights=weights) for _ in range(2))
    for before in range(max(0, step - 3), step):
        walked.batch_records(before)
    np.testing.assert_array_equal(walked.batch_records(step), jumped.batch_records(step))


@hypothesis.given(layouts, batch_sizes, seeds, st.lists(world_sizes, min_size=1, max_size=6), st.booleans())
@hypothesis.settings(deadline=None, max_examples=50)
def test_changes_of_workers_in_mid_epoch_lose_and_repeat_nothing(layout, batch_size, seed, worlds, is_weighted):
    weights = balance(layout) if is_weighted else None
    alone = sampler.Sampler(layout, batch_size, seed, weights=weights)
    steps = np.array_split(np.arange(alone.steps_per_epoch)[:60], len(worlds))
    for world_size, part in zip(worlds, steps, strict=True):
        resumed = sampler.Sampler(layout, batch_size, seed, weights=weights)
        for step in part.tolist():
            parts = [resumed.worker_records(step, rank, world_size) for rank in range(world_size)]
            assert np.concatenate(parts).tolist() == alone.batch_records(step).tolist()


def test_four_then_two_then_three_workers_train_on_every_record_once():
    for layout in (small(997), large([500, 497], 40)):
        seen = []
        for world_size, steps in ((4, range(3)), (2, range(3, 7)), (3, range(7, 16))):
            plan = sampler.Sampler(layout, 64, 5)
            seen += [plan.worker_records(step, rank, world_size) for step in steps for rank in range(world_size)]
        assert sorted(np.concatenate(seen).tolist()) == list(range(997))


@pytest.mark.parametrize("layout", [small(50), large([50], 10)], ids=["small", "large"])
def test_epochs_and_seeds_have_orders_of_their_own(layout):
    orders = {tuple(sampler.Sampler(layout, 5, seed).batch_records(10 * epoch)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4


def test_the_order_of_a_small_split_never_changes_between_versions():
    assert sampler.Sampler(small(10), 10, 42).batch_records(3).tolist() == [4, 8, 9, 3, 7, 6, 0, 2, 5, 1]


def test_the_order_of_a_large_split_never_changes_between_versions():
    plan = sampler.Sampler(large([10, 14], 5), 8, 42)
    assert [plan.batch_records(step).tolist() for step in (0, 1, 2, 3)] == [
        [18, 14, 23, 12, 20, 19, 1, 5],
        [17, 16, 11, 13, 8, 6, 4, 0],
        [10, 15, 22, 21, 9, 7, 3, 2],
        [9, 6, 21, 22, 12, 4, 15, 13],
    ]
    plan = sampler.Sampler(large([5000, 3000, 1], 40), 16, -3)
    assert [plan.batch_records(step).tolist() for step in (0, 499, 500, 123_456)] == [
        [3128, 4332, 3144, 3153, 5723, 5734, 5748, 5757, 6649, 6659, 6662, 6676, 2680, 3668, 3652],
        [7078, 7067, 7056, 7043, 3404, 3410, 3423, 3431, 2040, 4570, 2064, 2073, 5310, 5855, 5293, 5874],
        [116, 7061, 7059, 7044, 3401, 5770, 3427, 3439, 2049, 2058, 2067, 4597, 5842, 5302, 5296, 5280],
        [4752, 4450, 4466, 5569, 3488, 7463, 2862, 2874, 7913, 7653, 7662, 7672, 6152, 855, 6130, 6127],
    ]
    plan = sampler.Sampler(large([5000, 3000, 1], 40), 16, -3, weights=balance(plan.layout))
    assert [plan.batch_records(step).tolist() for step in (0, 123_456)] == [
        [4328, 3135, 3153, 4355, 5742, 5178, 5750, 5754, 6875, 6672, 6674, 6849, 2488, 2697, 2709],
        [4590, 4580, 5582, 4469, 3483, 7461, 7449, 3511, 7640, 7652, 4506, 7888, 1349, 1348, 3859, 3847],
    ]


def test_an_order_is_near_a_random_permutation():
    order = sampler.Sampler(small(20_000), 20_000, 9).batch_records(0)
    assert abs(np.corrcoef(order, np.arange(20_000))[0, 1]) < 0.03
    assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.03
    fixed_points = int((order == np.arange(20_000)).sum())
    assert fixed_points < 10  # a random permutation has one on average


@hypothesis.given(layouts, batch_sizes, seeds, st.integers(0, 5))
@hypothesis.settings(deadline=None)
def test_weighted_classes_have_exactly_their_share_of_every_epoch(layout, batch_size, seed, epoch):
    weights = balance(layout)
    plan = sampler.Sampler(layout, batch_size, seed, weights=weights)
    ids = np.concatenate(read_epoch(plan, epoch))
    assert len(ids) == layout.records
    np.testing.assert_array_equal(np.bincount(ids, minlength=layout.records), weights.draws(seed, epoch))
    np.testing.assert_array_equal(np.bincount(weights._labels[ids], minlength=4), weights.class_draws)


def test_a_class_left_out_never_comes():
    labels = np.repeat([0, 1], [300, 200])
    weights = class_weights.ClassWeights(labels, [0, 1])
    plan = sampler.Sampler(large([500], 30), 64, 1, weights=weights)  # most blocks hold no record that is drawn
    assert min(np.concatenate(read_epoch(plan, 0))) >= 300


def test_without_shuffling_the_stored_order_stays():
    plan = sampler.Sampler(small(10), 4, order=sampler.Order.STORED)
    assert [plan.batch_records(step).tolist() for step in range(3)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]
    assert plan.batch_records(3).tolist() == [0, 1, 2]


def test_position_counts_epochs_and_steps_from_zero():
    plan = sampler.Sampler(small(10), 4)
    assert [plan.position(step) for step in (0, 2, 3, 7)] == [(0, 0), (0, 2), (1, 0), (2, 1)]


def test_many_threads_get_what_one_gets():
    layout = large([3000] * 4, 60)
    shared, alone = (sampler.Sampler(layout, 64, 8) for _ in range(2))
    steps = np.random.default_rng(0).integers(0, 3 * shared.steps_per_epoch, 400).tolist()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        batches = list(pool.map(shared.batch_records, steps))
    for step, batch in zip(steps, batches, strict=True):
        assert batch.tolist() == alone.batch_records(step).tolist()


@pytest.mark.parametrize("layout", [small(1000), large([1000], 50)], ids=["small", "large"])
def test_only_a_few_epochs_and_pieces_are_kept(layout):
    plan = sampler.Sampler(layout, 100)
    for step in range(100):
        plan.batch_records(step)
    assert len(plan._epochs) == 2
    assert all(len(getattr(order, "_pieces", ())) <= 16 for order in plan._epochs.values())


@pytest.mark.parametrize("layout", [small(100), large([100], 10)], ids=["small", "large"])
def test_a_batch_cannot_be_changed_for_others(layout):
    plan = sampler.Sampler(layout, 10)
    before = plan.batch_records(2).tolist()
    batch = plan.batch_records(2)
    if batch.flags.writeable:
        batch[:] = 0
    assert plan.batch_records(2).tolist() == before


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda: sampler.Sampler(small(0), 1), "records must be at least 1, got 0"),
        (lambda: sampler.Sampler(small(1), 0), "global_batch_size must be at least 1, got 0"),
        (lambda: sampler.Sampler(small(1), 1).batch_records(-1), "step must be 0 or more, got -1"),
        (lambda: sampler.slice_for(4, 2, 2), r"rank must be in \[0, 2\), got 2"),
        (lambda: sampler.slice_for(4, -1, 2), r"rank must be in \[0, 2\), got -1"),
        (lambda: sampler.Sampler(small(5), 1, weights=balance(small(4))), "weights must be for 5 records, got 4"),
        (
            lambda: sampler.Sampler(small(5), 1, order=sampler.Order.STORED, weights=balance(small(5))),
            "order must be Order.SHUFFLED where there are weights, got <Order.STORED",
        ),
    ],
)
def test_a_broken_rule_is_named(call, rule):
    with pytest.raises(ValueError, match=rule):
        call()
