import pytest

from imagetrain_api import exit_codes
from rendezvous_groups import Group

Code = exit_codes.ExitCode
ELASTIC = {"min_members": 2, "elastic_timeout_seconds": 20, "member_timeout_seconds": 60}


def _workers(group, rank=0):
    return [member.worker for member in group.order(rank).members]


def test_a_group_goes_on_smaller_when_a_member_stays_away():
    group = Group(4, **ELASTIC)
    group.start()
    group.lose(1)
    group.wait(19, follows=True)
    assert group.actions() == {0: "wait", 2: "wait", 3: "wait"}
    group.wait(3, follows=True)
    assert group.actions() == {0: "run", 2: "run", 3: "run"}
    assert _workers(group) == [0, 2, 3]  # renumbered in the order of the ranks: the chief stays the chief
    assert [group.order(0).rank_of(worker) for worker in range(4)] == [0, None, 1, 2]
    group.wait(300)
    assert not group.coordinator.is_over


def test_a_group_that_is_complete_does_not_wait():
    group = Group(4, **ELASTIC)
    group.start()
    lost = group.lose(1)
    group.wait(5, follows=True)
    group.join(1, incarnation="second")
    group.wait(0.2, follows=True)
    assert _workers(group) == [0, 1, 2, 3]
    assert lost


def test_a_group_grows_again_at_a_checkpoint_when_a_member_waits():
    group = Group(3, **ELASTIC, max_restarts=1)
    group.start()
    group.lose(2)
    group.wait(23, follows=True)
    assert _workers(group) == [0, 1]
    group.report(0, 1, step=40)
    group.join(2, incarnation="second")
    group.wait(0.2)
    assert group.actions() == {0: "checkpoint_and_stop", 1: "checkpoint_and_stop", 2: "wait"}
    group.wait(50)  # the next checkpoint may be far
    group.report(0, state="ended", exit_code=Code.PREEMPTED)
    group.wait(5)
    assert group.actions()[1] == "checkpoint_and_stop"  # it may still save
    group.report(1, state="ended", exit_code=Code.PREEMPTED)
    group.wait(0.2, follows=True)
    assert group.actions() == {0: "run", 1: "run", 2: "run"}
    assert _workers(group) == [0, 1, 2]
    assert len(group.order(0).recoveries) == 1  # growing is no recovery and uses up no restart
    assert group.order(0).restarts == 1


def test_a_group_that_is_done_before_it_grows_is_done():
    group = Group(3, **ELASTIC)
    group.join(0, 1)
    group.wait(22, follows=True)
    group.join(2)
    group.wait(0.2)
    group.report(0, 1, state="ended", exit_code=0)
    assert group.leave_codes() == {0: 0, 1: 0, 2: 0}


def test_a_failure_while_a_group_grows_is_a_failure():
    group = Group(3, **ELASTIC)
    group.join(0, 1)
    group.wait(22, follows=True)
    group.join(2)
    group.report(1, state="ended", exit_code=-9)
    group.wait(3, follows=True)
    assert _workers(group) == [0, 1, 2]
    assert [record.reason for record in group.order(0).recoveries] == ["Killed"]


def test_too_few_members_wait_for_the_absent_and_then_leave():
    group = Group(4, **ELASTIC)
    group.start()
    group.lose(1, 2, 3)
    group.wait(59, follows=True)
    assert group.actions() == {0: "wait"}
    group.wait(3)
    assert group.leave_codes() == {0: Code.PEER_LOST}


def test_no_group_starts_without_rank_0():
    group = Group(3, **ELASTIC)
    group.start()
    group.lose(0)
    group.wait(40, follows=True)
    assert {group.order(rank).action for rank in (1, 2)} == {"wait"}
    group.join(0, incarnation="second")
    group.wait(0.2, follows=True)
    assert group.actions() == {0: "run", 1: "run", 2: "run"}


def test_a_member_whose_process_does_not_stop_is_not_left_behind_running():
    group = Group(3, **ELASTIC)
    group.start()
    group.lose(2)
    group.settle()
    group.report(0, state="idle")
    group.wait(59)
    assert group.actions() == {0: "wait", 1: "stop"}
    group.wait(3)
    assert group.coordinator.is_over


def test_a_member_that_returns_with_its_old_process_is_stopped_before_it_joins():
    group = Group(3, **ELASTIC)
    group.start()
    lost = group.lose(2)
    group.wait(23, follows=True)
    assert _workers(group) == [0, 1]
    group.come_back(lost)
    assert group.actions() == {0: "run", 1: "run", 2: "stop"}
    group.follow()
    assert group.actions() == {0: "checkpoint_and_stop", 1: "checkpoint_and_stop", 2: "wait"}


@pytest.mark.parametrize("min_members", [0, 5])
def test_the_least_number_of_members_is_checked(min_members):
    with pytest.raises(ValueError, match=f"min_members must be from 1 to 4, got {min_members}"):
        Group(4, min_members=min_members)
