import signal

import pytest

from imagetrain_api import exit_codes
from imagetrain_trainer.rendezvous import coordinator
from rendezvous_groups import Group

Code = exit_codes.ExitCode
Phase = coordinator.Phase


def test_a_member_that_stays_away_ends_the_attempt_and_is_named():
    group = Group(3, member_timeout_seconds=30)
    group.start()
    group.lose(2)
    group.wait(29, follows=True)
    assert group.actions() == {0: "wait", 1: "wait"}
    assert group.order(0).message == "Rank 2's worker was lost. Waiting for rank 2."
    group.wait(3)
    assert group.leave_codes() == {0: Code.PEER_LOST, 1: Code.PEER_LOST}
    assert group.order(0).message == "Rank 2 did not come back within 30 s (recovery.memberTimeoutSeconds)."


def test_a_member_that_never_appears_has_the_start_timeout():
    group = Group(2, start_timeout_seconds=100)
    group.join(0)
    group.wait(99)
    assert group.actions() == {0: "wait"}
    group.wait(2)
    assert group.leave_codes() == {0: Code.PEER_LOST}
    assert group.order(0).message == "Rank 1 did not appear within 100 s (recovery.startTimeoutSeconds)."


def test_a_process_that_does_not_stop_ends_the_attempt():
    group = Group(2, member_timeout_seconds=30)
    group.start()
    group.report(0, state="ended", exit_code=-9)
    group.report(0, state="idle")
    group.wait(32)
    assert group.leave_codes() == {0: Code.PEER_LOST, 1: Code.PEER_LOST}
    assert (
        group.order(0).message
        == "Rank 1 did not stop its training process within 30 s (recovery.memberTimeoutSeconds)."
    )


def test_a_process_that_does_not_start_is_a_failure():
    group = Group(2, start_timeout_seconds=50)
    group.join(0, 1)
    group.report(0, generation=1, state="running")
    group.wait(52)
    assert group.actions() == {0: "stop", 1: "wait"}
    assert group.order(0).recoveries[-1].message == "Rank 1 did not start its training process within 50 s."


def test_restarts_are_counted_and_limited():
    group = Group(2, max_restarts=2)
    group.start()
    for step in (10, 20):
        group.report(0, 1, step=step)
        group.report(1, state="ended", exit_code=-9)
        group.wait(1, follows=True)
        assert set(group.actions().values()) == {"run"}
    group.report(0, 1, step=30)
    group.report(1, state="ended", exit_code=-9)
    assert group.leave_codes() == {0: Code.PEER_LOST, 1: Code.INTERNAL}
    assert group.order(0).message == "Rank 1 was killed (SIGKILL). recovery.maxRestarts allows 2 restarts."
    assert group.order(0).restarts == 3


def test_a_group_without_a_guilty_rank_leaves_with_its_reason():
    group = Group(2, max_restarts=0)
    group.start()
    group.report(0, suspect="step", has_dump=True)
    group.report(1, has_dump=True)
    assert group.leave_codes() == {0: Code.HUNG, 1: Code.HUNG}


def test_failures_without_progress_back_off():
    group = Group(1, max_restarts=100)
    group.start()
    waits = []
    for _ in range(8):
        group.report(0, state="ended", exit_code=Code.STORAGE_UNAVAILABLE)
        began = group.now
        while group.order(0).action != "run" or group.order(0).generation == group.reports[0].generation:
            group.wait(0.1)
        waits.append(round(group.now - began))
        group.follow()
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    group.report(0, step=1)
    group.report(0, state="ended", exit_code=Code.STORAGE_UNAVAILABLE)
    assert group.order(0).action == "run"  # it made progress: no wait


# Crashes of rank 1: status, phase, steps made since the checkpoint of step 100; and whether the group gives up.
CRASHES = [
    ([(Code.INTERNAL, "training", 5)] * 2, True),
    ([(-signal.SIGSEGV, "training", 5)] * 2, True),
    ([(-signal.SIGKILL, "training", 5)] * 2, False),  # somebody outside may have been at work twice
    ([(-signal.SIGKILL, "training", 5)] * 3, True),
    ([(Code.OUT_OF_MEMORY, "training", 5)] * 2, True),
    ([(-signal.SIGSEGV, "training", 0)] * 2, True),
    ([(Code.INTERNAL, "publishing", 0)] * 2, True),
    ([(-signal.SIGKILL, "training", 0)] * 4, False),  # kills in the long first step of a process
    ([(-signal.SIGKILL, "publishing", 5)] * 4, False),
    ([(Code.INTERNAL, "training", 5), (Code.INTERNAL, "training", 6)], False),
    ([(Code.INTERNAL, "training", 5), (-signal.SIGSEGV, "training", 5)], False),
    ([(Code.INTERNAL, "starting", 0)] * 2, False),
    ([(Code.STORAGE_UNAVAILABLE, "training", 5)] * 2, False),
    ([(Code.PEER_LOST, "training", 5)] * 2, False),
]


@pytest.mark.parametrize(("crashes", "is_given_up"), CRASHES)
def test_the_same_crash_at_the_same_step_twice_is_given_up(crashes, is_given_up):
    group = Group(2)
    group.join(0, 1, local_steps=(100,))
    for status, phase, steps in crashes:
        group.wait(3, follows=True)
        assert set(group.actions().values()) == {"run"}
        group.report(0, 1, step=100 + steps, entered_step=101 + steps, phase=phase)
        group.report(1, state="ended", exit_code=status, message="boom")
        group.settle()
    assert group.coordinator.is_over == is_given_up
    if is_given_up:
        assert group.leave_codes() == {0: Code.PEER_LOST, 1: Code.CRASH_LOOP}
        often = {2: "twice", 3: "three times"}[len(crashes)]
        assert f"It did so {often} at step {101 + crashes[0][2]};" in group.order(0).message


def test_another_failure_between_two_crashes_clears_them():
    group = Group(2)
    group.start(step=10)
    for status in (Code.INTERNAL, Code.STORAGE_UNAVAILABLE, Code.INTERNAL):
        group.report(1, state="ended", exit_code=status, step=15, entered_step=16)
        group.settle()
        assert not group.coordinator.is_over
        group.wait(5, follows=True)


def test_a_member_that_is_asked_to_stop_lets_the_others_save_and_leaves():
    group = Group(2)
    group.start()
    group.report(1, is_stopping=True)
    assert group.actions() == {0: "run", 1: "run"}
    group.report(1, state="ended", exit_code=Code.PREEMPTED)
    group.wait(20)
    assert group.actions() == {0: "run", 1: "leave"}  # rank 0 still saves
    group.report(0, state="ended", exit_code=Code.PREEMPTED)
    assert group.actions() == {0: "wait", 1: "leave"}
    assert group.order(1).exit_code == Code.PREEMPTED
    group.lose(1)
    group.wait(5)
    group.join(1, incarnation="second")
    group.wait(2, follows=True)
    assert group.actions() == {0: "run", 1: "run"}
    assert [record.message for record in group.order(0).recoveries] == ["Rank 1 was asked to stop."]


def test_the_member_that_was_asked_to_stop_is_named_though_another_ends_first():
    group = Group(2)
    group.start()
    group.report(1, is_stopping=True)
    group.report(0, state="ended", exit_code=Code.PREEMPTED)
    group.wait(2)
    group.report(1, state="ended", exit_code=Code.PREEMPTED)
    (record,) = group.order(0).recoveries
    assert (record.rank, record.message) == (1, "Rank 1 was asked to stop.")


def test_saving_when_one_is_asked_to_stop_has_a_limit():
    group = Group(2, save_seconds=20)
    group.start()
    group.report(1, is_stopping=True)
    group.report(1, state="ended", exit_code=Code.PREEMPTED)
    group.wait(21)
    assert group.actions() == {0: "stop", 1: "leave"}


def test_a_member_that_was_asked_to_stop_is_preempted_however_it_ends():
    group = Group(2)
    group.start()
    group.report(1, is_stopping=True)
    group.lose(1)
    group.report(0, state="ended", exit_code=Code.PEER_LOST)
    group.settle()
    (record,) = group.order(0).recoveries
    assert (record.rank, record.reason) == (1, "Preempted")


def test_a_group_that_is_asked_to_stop_leaves_as_preempted_without_a_record():
    group = Group(3, max_restarts=0)
    group.start()
    for rank in range(3):
        group.report(rank, is_stopping=True)
        group.wait(0.3)
    for rank in range(3):
        group.report(rank, state="ended", exit_code=Code.PREEMPTED)
    assert group.leave_codes() == dict.fromkeys(range(3), Code.PREEMPTED)
    assert group.order(0).recoveries == ()


def test_a_stopping_member_that_does_not_leave_ends_the_attempt():
    group = Group(2, member_timeout_seconds=10)
    group.join(0)
    group.join(1, is_stopping=True)
    group.wait(12)
    assert group.leave_codes() == {0: Code.PEER_LOST, 1: Code.PEER_LOST}
    assert "Rank 1 was asked to stop and did not leave within 10 s" in group.order(0).message
