"""A seed is a plan."""

import pytest

from imagetrain_chaos import faults, plan

KINDS = sorted(plan.RANK_WIDE | plan.GROUP_WIDE)
PLACE = {"workers": 3, "first_step": 10, "gap_steps": 20}


def test_a_seed_gives_the_same_plan_again():
    assert plan.plan_faults(7, KINDS, **PLACE) == plan.plan_faults(7, KINDS, **PLACE)
    assert plan.plan_faults(7, KINDS, **PLACE) != plan.plan_faults(8, KINDS, **PLACE)


@pytest.mark.parametrize("seed", range(20))
def test_faults_come_in_their_order_each_within_its_gap_and_rank(seed):
    planned = plan.plan_faults(seed, KINDS, **PLACE)
    assert [fault.kind for fault in planned] == KINDS
    for index, fault in enumerate(planned):
        assert 10 + 20 * index <= fault.at_step < 20 + 20 * index
        assert fault.rank in (range(3) if fault.kind in plan.RANK_WIDE else [0])
        least, most = plan.SECONDS.get(fault.kind, (0, 0))
        assert least <= fault.seconds <= most


def test_a_soak_has_every_kind_before_any_comes_again():
    planned = plan.plan_soak(1, KINDS, workers=2, first_step=30, gap_steps=40, last_step=3000)
    assert {fault.kind for fault in planned[: len(KINDS)]} == set(KINDS)
    assert [fault.at_step for fault in planned] == sorted({fault.at_step for fault in planned})
    assert planned[-1].at_step < 3000
    assert planned == plan.plan_soak(1, KINDS, workers=2, first_step=30, gap_steps=40, last_step=3000)


def test_every_kind_can_be_done():
    assert set(faults.BEGIN) == set(KINDS)
