import pytest

from imagetrain_api import exit_codes
from imagetrain_trainer.rendezvous import coordinator
from rendezvous_groups import UNIX, Group

Code = exit_codes.ExitCode
Phase = coordinator.Phase


def test_a_clock_jump_of_the_wall_changes_nothing_but_the_records_times():
    group = Group(2)
    group.start()
    group.unix_offset += 86400
    group.wait(3)
    assert group.actions() == {0: "run", 1: "run"}
    group.report(1, state="ended", exit_code=-9)
    group.unix_offset -= 2 * 86400
    group.wait(1)
    (record,) = group.order(0).recoveries
    assert record.detected_at == pytest.approx(group.now + UNIX + 86400 - 1)
    assert 0 <= record.lost_seconds < 10


def test_a_coordinator_that_was_frozen_itself_blames_nobody():
    group = Group(3)
    group.start()
    group.now += 3600
    group.coordinator.tick(group.now)
    assert set(group.actions().values()) == {"run"}
    group.lose(2)
    group.wait(2, follows=True)
    group.now += 3600
    group.coordinator.tick(group.now)
    assert group.actions() == {0: "wait", 1: "wait"}  # rank 2's time is not over


def test_a_clock_that_goes_back_is_ignored():
    group = Group(1)
    group.start()
    group.coordinator.tick(group.now - 500)
    assert group.actions() == {0: "run"}


def test_a_restarted_coordinator_goes_on_from_the_highest_generation_and_the_members_memory():
    group = Group(3)
    group.start(step=10)
    group.report(0, 1, 2, step=50)
    group.report(2, state="ended", exit_code=-9)
    group.wait(2, follows=True)
    before = group.order(1)
    assert before.generation == 2
    memory = {"recoveries": before.recoveries, "restarts": before.restarts}
    old = group.reports
    group.reports, group.coordinator = {}, group.build_coordinator()
    group.join(1, hello=memory, generation=2, state="running", phase="training", step=60)
    assert group.order(1).action == "stop"
    group.join(2, hello=memory, generation=2, state="ended", exit_code=Code.PEER_LOST)
    group.join(0, incarnation="second")
    assert group.actions() == {0: "wait", 1: "stop", 2: "wait"}
    group.wait(2, follows=True)
    assert {group.order(rank).generation for rank in range(3)} == {3}
    records = group.order(0).recoveries
    assert [(record.generation, record.rank, record.reason) for record in records] == [(1, 2, "Killed"), (2, 0, "Lost")]
    assert records[1].step == 60
    assert group.order(0).restarts == 2
    assert old  # the first group's supervisors 1 and 2 lived on


def test_a_restarted_coordinator_gives_a_member_it_has_not_seen_the_members_time():
    group = Group(2, member_timeout_seconds=20, start_timeout_seconds=600)
    group.join(0, generation=3, state="ended", exit_code=Code.PEER_LOST)
    group.wait(22)
    assert group.leave_codes() == {0: Code.PEER_LOST}


def test_a_restarted_coordinator_does_not_give_a_number_twice_that_a_member_has_heard():
    group = Group(2)
    group.join(0, 1)
    assert group.order(1).generation == 1
    group.reports, group.coordinator = {}, group.build_coordinator()
    group.join(1, hello={"generation": 1})  # it was told to run and has not begun
    group.join(0, incarnation="second")
    group.wait(2)
    assert group.order(1).generation == 2


def test_a_member_of_a_later_generation_stops_this_one():
    group = Group(2)
    group.start()
    group.report(1, generation=9)
    assert group.actions() == {0: "stop", 1: "stop"}
    group.wait(2, follows=True)
    assert {group.order(rank).generation for rank in range(2)} == {10}


def test_a_member_that_may_still_start_its_last_order_is_not_taken_for_idle():
    group = Group(2, member_timeout_seconds=30)
    group.join(0, 1)
    group.report(0, generation=1, state="running", phase="training")
    group.mute.add(1)  # frozen with the order to run in its hands
    group.wait(8)
    group.report(0, state="idle")
    group.report(1)  # it goes on, and has not looked at its orders yet
    assert group.actions() == {0: "wait", 1: "wait"}
    assert group.order(0).message == "Rank 1's worker was silent for 6 s. Waiting for rank 1."
    group.report(1, generation=1, state="running", phase="training")  # as it was told
    assert group.actions() == {0: "wait", 1: "stop"}
    group.mute.clear()
    group.wait(3, follows=True)
    assert {group.order(rank).generation for rank in (0, 1)} == {2}


def test_a_member_that_has_obeyed_a_later_order_is_idle():
    group = Group(2)
    group.join(0, 1)
    group.report(0, generation=1, state="running", phase="training")
    group.mute.add(1)
    group.wait(8)
    group.report(0, state="idle")
    group.report(1, heard=group.order(1).sequence)
    group.wait(3)
    assert {group.order(rank).generation for rank in (0, 1)} == {2}


def test_a_member_that_does_not_answer_its_orders_ends_the_attempt():
    group = Group(2, member_timeout_seconds=30)
    group.join(0, 1)
    group.report(0, generation=1, state="running", phase="training")
    group.mute.add(1)
    group.wait(8)
    group.report(0, state="idle")
    for _ in range(320):
        group.report(1)
        group.wait(0.1)
    assert group.leave_codes() == {0: Code.PEER_LOST, 1: Code.PEER_LOST}
    assert "Rank 1 did not answer its last order within 30 s" in group.order(0).message


def test_a_restarted_coordinator_takes_back_what_the_last_one_ordered():
    group = Group(2)
    group.join(0, 1)
    assert group.order(1).action == "run"
    heard = group.order(1).sequence
    group.reports, group.coordinator = {}, group.build_coordinator()
    group.join(1, hello={"generation": 1}, heard=heard)  # it may be about to start
    group.join(0, incarnation="second")
    group.report(1)
    assert group.actions() == {0: "wait", 1: "wait"}
    assert group.order(1).sequence > heard
    group.wait(2)
    assert {group.order(rank).generation for rank in (0, 1)} == {2}
