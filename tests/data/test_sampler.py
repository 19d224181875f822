"""Every record exactly once an epoch, in an order that knows nothing of the workers."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from imagetrain_trainer.data import blocks, sampler

records = st.integers(1, 3000)
batch_sizes = st.integers(1, 700)
seeds = st.integers(-(2**63), 2**64)


def small(count: int) -> blocks.Layout:
    """Plan a split that is shuffled as a whole."""
    return blocks.plan([count], 100 * count)


@hypothesis.given(records, batch_sizes, seeds, st.integers(0, 5), st.sampled_from(sampler.Order))
def test_an_epoch_holds_every_record_exactly_once(count, batch_size, seed, epoch, order):
    plan = sampler.Sampler(small(count), batch_size, seed, order=order)
    first = epoch * plan.steps_per_epoch
    batches = [plan.batch_records(first + step) for step in range(plan.steps_per_epoch)]
    assert sorted(np.concatenate(batches).tolist()) == list(range(count))
    sizes = {len(batch) for batch in batches}
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert plan.steps_per_epoch == -(-count // batch_size)


@hypothesis.given(records, batch_sizes, seeds, st.integers(0, 50), st.integers(1, 17))
def test_the_workers_parts_make_up_the_batch_in_rank_order(count, batch_size, seed, step, world_size):
    plan = sampler.Sampler(small(count), batch_size, seed)
    parts = [plan.worker_records(step, rank, world_size) for rank in range(world_size)]
    assert np.concatenate(parts).tolist() == plan.batch_records(step).tolist()
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@hypothesis.given(records, batch_sizes, seeds, st.integers(0, 200))
def test_a_step_is_the_same_however_it_is_reached(count, batch_size, seed, step):
    walked, jumped = (sampler.Sampler(small(count), batch_size, seed) for _ in range(2))
    for before in range(max(0, step - 3), step):
        walked.batch_records(before)
    np.testing.assert_array_equal(walked.batch_records(step), jumped.batch_records(step))


def test_a_change_of_workers_in_mid_epoch_loses_and_repeats_nothing():
    seen = []
    for world_size, steps in ((4, range(3)), (2, range(3, 7)), (3, range(7, 16))):
        plan = sampler.Sampler(small(997), 64, 5)
        seen += [plan.worker_records(step, rank, world_size) for step in steps for rank in range(world_size)]
    assert sorted(np.concatenate(seen).tolist()) == list(range(997))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {tuple(sampler.Sampler(small(50), 50, seed).batch_records(epoch)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4


def test_the_order_never_changes_between_versions():
    assert sampler.Sampler(small(10), 10, 42).batch_records(3).tolist() == [4, 8, 9, 3, 7, 6, 0, 2, 5, 1]


def test_an_order_is_near_a_random_permutation():
    order = sampler.Sampler(small(20_000), 20_000, 9).batch_records(0)
    assert abs(np.corrcoef(order, np.arange(20_000))[0, 1]) < 0.03
    assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.03
    fixed_points = int((order == np.arange(20_000)).sum())
    assert fixed_points < 10  # a random permutation has one on average


def test_without_shuffling_the_stored_order_stays():
    plan = sampler.Sampler(small(10), 4, order=sampler.Order.STORED)
    assert [plan.batch_records(step).tolist() for step in range(3)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]
    assert plan.batch_records(3).tolist() == [0, 1, 2]


def test_position_counts_epochs_and_steps_from_zero():
    plan = sampler.Sampler(small(10), 4)
    assert [plan.position(step) for step in (0, 2, 3, 7)] == [(0, 0), (0, 2), (1, 0), (2, 1)]


def test_only_a_few_epochs_are_kept():
    plan = sampler.Sampler(small(100), 10)
    for step in range(100):
        plan.batch_records(step)
    assert len(plan._epochs) == 2


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda: sampler.Sampler(small(0), 1), "records must be at least 1, got 0"),
        (lambda: sampler.Sampler(small(1), 0), "global_batch_size must be at least 1, got 0"),
        (lambda: sampler.Sampler(small(1), 1).batch_records(-1), "step must be 0 or more, got -1"),
        (lambda: sampler.slice_for(4, 2, 2), r"rank must be in \[0, 2\), got 2"),
        (lambda: sampler.slice_for(4, -1, 2), r"rank must be in \[0, 2\), got -1"),
    ],
)
def test_a_broken_rule_is_named(call, rule):
    with pytest.raises(ValueError, match=rule):
        call()
