"""A seed is a plan."""

import dataclasses
import os

import pytest

from imagetrain_chaos import cluster_faults, faults, plan, records, sizes, told

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
    assert set(cluster_faults.BEGIN) == plan.ON_CLUSTER
    assert set(told.ON_CLUSTER) <= plan.ON_CLUSTER
    assert set(told.ON_LOCAL_RUN) <= set(KINDS)


RECORD = records.Record(
    reason="Killed",
    rank=1,
    message="Rank 1 was killed.",
    step=120,
    resumed_step=100,
    lost_seconds=8.0,
    is_in_place=True,
    is_over=True,
)
KILLED = plan.Fault(at_step=110, kind="kill_training", rank=1)


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        ([RECORD], 0),
        ([], 1),
        ([dataclasses.replace(RECORD, rank=0)], 1),
        ([dataclasses.replace(RECORD, is_in_place=False)], 1),
        ([dataclasses.replace(RECORD, lost_seconds=0.0), RECORD], 1),
        ([dataclasses.replace(RECORD, reason="Frozen")], 1),
        ([dataclasses.replace(RECORD, message="")], 1),
        ([dataclasses.replace(RECORD, resumed_step=None)], 1),
        ([dataclasses.replace(RECORD, resumed_step=121)], 1),
        ([dataclasses.replace(RECORD, lost_seconds=0.0)], 1),
        ([RECORD, dataclasses.replace(RECORD, reason="Hung")], 1),
        ([RECORD, RECORD], 0),
    ],
)
def test_a_record_must_tell_what_was_done(found, wrong):
    assert len(told.ANYWHERE["kill_training"].find_wrong(KILLED, found)) == wrong


def test_a_fault_that_costs_nothing_leaves_no_record():
    outage = plan.Fault(at_step=110, kind="s3_outage", seconds=3.0)
    assert not told.NOTHING.find_wrong(outage, [])
    assert told.NOTHING.find_wrong(outage, [RECORD])
    assert not told.ANYWHERE["freeze_supervisor"].find_wrong(KILLED, [])  # it may have been too short


def test_growth_of_a_process_is_found(monkeypatch):
    grown = sizes.Sizes("worker", most_bytes=1 << 40)
    read = iter(range(10_000))
    monkeypatch.setattr(sizes, "read_number", lambda _pid, name: 50_000 + 400 * next(read) if name == "VmRSS" else 3)
    for second in range(0, 600, 10):
        grown.add(float(second), [os.getpid()])
    (line,) = grown.find_growth()
    assert line.startswith(f"worker {os.getpid()} grows: resident_bytes from ")


def test_this_process_is_measured():
    seen = sizes.Sizes("test", most_bytes=1 << 20)
    seen.add(0.0, [os.getpid(), 2**22 + 1])  # no process has the second
    assert str(seen).startswith(f"test {os.getpid()}: 0 s, at most ")
    (line,) = seen.find_growth()
    assert line.endswith("MiB (goal 1)")


def test_an_attempt_that_was_lost_before_its_first_step_goes_on_from_nowhere():
    node = plan.Fault(at_step=110, kind="kill_node")
    ended = dataclasses.replace(RECORD, reason="NodeLost", is_in_place=False, resumed_step=None)
    assert not told.ON_CLUSTER["kill_node"].find_wrong(node, [ended, dataclasses.replace(ended, resumed_step=124)])
    assert told.ON_CLUSTER["kill_node"].find_wrong(node, [ended])


def test_records_go_to_the_faults_that_they_followed():
    done = [(KILLED, 0), (plan.Fault(at_step=150, kind="s3_outage"), 1), (KILLED, 1)]
    assert not told.find_all_wrong(told.ON_LOCAL_RUN, done, [RECORD, RECORD])
    (line,) = told.find_all_wrong(told.ON_LOCAL_RUN, done, [RECORD])
    assert line.endswith("no record of it")
    (line,) = told.find_all_wrong(told.ON_LOCAL_RUN, [(KILLED, 1)], [RECORD, RECORD])
    assert line.startswith("nothing was done, and there is Record(")
