import signal

import pytest

from imagetrain_api import exit_codes, progress
from rendezvous_groups import Group

Code = exit_codes.ExitCode
ABORT = -signal.SIGABRT


def _crash(group, entered, *, last=None, step=None, rank=1, status=ABORT, **fields):
    """Let a generation run up to a step and crash there."""
    group.wait(40, follows=True)  # past any wait before a restart
    assert set(group.actions().values()) == {"run"}
    step = entered - 1 if step is None else step
    group.report(0, 1, step=step, entered_step=entered, entered_last_step=last or entered, **fields)
    group.report(rank, state="ended", exit_code=status)
    group.settle()


def _group(**limits):
    group = Group(2, **{"skip_poison_batches": True, "max_restarts": 1000, **limits})
    group.join(0, 1, local_steps=(100,))
    return group


def test_after_a_crash_its_steps_run_one_by_one_until_another_failure():
    group = _group()
    _crash(group, 106, last=115)
    assert (group.order(0).careful_steps, group.order(0).skip_steps) == ((106, 115), ())
    _crash(group, 104, status=Code.STORAGE_UNAVAILABLE)
    assert group.order(0).careful_steps == ()


def test_a_step_that_crashes_twice_is_left_out():
    group = _group()
    _crash(group, 106, last=115)
    _crash(group, 110)
    assert group.order(0).skip_steps == (110,)
    assert group.order(0).recoveries[-1].message == (
        "Rank 1 was ended (SIGABRT). It did so twice at step 110, which is left out from now on."
    )
    _crash(group, 120)
    assert group.order(0).skip_steps == (110,)
    assert not group.coordinator.is_over


def test_crashes_of_steps_together_do_not_name_one():
    group = _group(skip_poison_batches=False)
    _crash(group, 106, last=115)
    _crash(group, 101, last=110)
    assert not group.coordinator.is_over
    _crash(group, 107)
    assert group.leave_codes() == {0: Code.PEER_LOST, 1: Code.CRASH_LOOP}
    assert "at step 107;" in group.order(0).message


def test_a_crash_at_the_same_step_on_another_rank_is_the_same_crash():
    group = _group(skip_poison_batches=False)
    _crash(group, 106, rank=1)
    _crash(group, 106, rank=0)
    assert group.leave_codes() == {0: Code.CRASH_LOOP, 1: Code.PEER_LOST}


def test_a_crash_behind_the_step_is_not_left_out():
    group = _group()
    for _ in range(2):
        _crash(group, 105, step=105, phase="evaluating")
    assert group.leave_codes() == {0: Code.PEER_LOST, 1: Code.CRASH_LOOP}


def test_leaving_steps_out_in_vain_ends_the_group():
    group = _group()
    for _ in range(2):
        _crash(group, 101, step=100)
    assert group.order(0).skip_steps == (101,)
    for _ in range(2):
        _crash(group, 102, step=101)  # it came no further than the step that was left out
    assert group.leave_codes() == {0: Code.PEER_LOST, 1: Code.CRASH_LOOP}
    assert group.order(0).message.endswith("twice at step 102, though the step before it was left out.")


def test_so_many_steps_are_left_out_and_no_more():
    group = _group()
    for index in range(progress.MAX_SKIPPED_STEPS):
        for _ in range(2):
            _crash(group, 110 + 10 * index)
    assert len(group.order(0).skip_steps) == progress.MAX_SKIPPED_STEPS
    for _ in range(2):
        _crash(group, 5000)
    assert group.leave_codes() == {0: Code.PEER_LOST, 1: Code.CRASH_LOOP}
    assert group.order(0).message.endswith("twice at step 5000, and 100 steps are left out already.")


@pytest.mark.parametrize("kills", [2, 3])
def test_kills_from_outside_count_when_they_are_three(kills):
    group = _group()
    for _ in range(kills):
        _crash(group, 106, status=-signal.SIGKILL)
    assert group.order(0).skip_steps == ((106,) if kills == 3 else ())


def test_a_restarted_coordinator_learns_from_the_members_which_steps_are_left_out():
    group = _group()
    for _ in range(2):
        _crash(group, 106)
    before = group.order(1)
    group.reports, group.coordinator = {}, group.build_coordinator()
    group.join(0, incarnation="second")
    assert group.order(0).skip_steps == ()
    group.join(1, hello={"skip_steps": before.skip_steps, "generation": before.generation}, generation=2)
    assert group.order(0).skip_steps == (106,)
