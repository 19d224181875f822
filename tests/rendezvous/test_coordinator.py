import signal

import pytest

from imagetrain_api import exit_codes
from imagetrain_trainer.rendezvous import coordinator
from rendezvous_groups import UNIX, Group, Guilt

Code = exit_codes.ExitCode
Phase = coordinator.Phase


def test_a_generation_starts_only_when_every_member_is_there_and_idle():
    group = Group(3)
    group.join(0)
    group.join(2, state="running", generation=0)
    assert group.actions() == {0: "wait", 2: "stop"}
    assert group.order(0).message == "Waiting for ranks 1 and 2."
    group.join(1)
    assert group.actions() == {0: "wait", 1: "wait", 2: "stop"}
    group.report(2, state="idle")
    assert group.actions() == {0: "run", 1: "run", 2: "run"}
    order = group.order(1)
    assert order.generation == 1
    assert [(member.worker, member.host) for member in order.members] == [(0, "host-0"), (1, "host-1"), (2, "host-2")]


def test_the_first_generation_follows_those_of_earlier_attempts():
    group = Group(1, first_generation=7)
    group.join(0)
    assert group.order(0).generation == 7


@pytest.mark.parametrize(
    ("local_steps", "resume_step"),
    [
        ([(), ()], None),
        ([(100,), ()], None),
        ([(100, 200), (100, 200, 300)], 200),
        ([(200, 100), (300, 100)], 100),  # the newest of one is not the other's
        ([(100,), (200,)], None),
    ],
)
def test_the_resume_step_is_the_newest_that_every_member_has(local_steps, resume_step):
    group = Group(2)
    for rank, steps in enumerate(local_steps):
        group.join(rank, local_steps=steps)
    assert [group.order(rank).resume_step for rank in (0, 1)] == [resume_step] * 2


# One failure each: fields of the guilty rank's last report, and what the record says of it.
FAILURES = [
    ({"exit_code": -signal.SIGKILL}, "Killed", "Rank 1 was killed (SIGKILL)."),
    ({"exit_code": -signal.SIGSEGV}, "Killed", "Rank 1 was ended (SIGSEGV)."),
    ({"exit_code": -60}, "Killed", "Rank 1 was ended (signal 60)."),
    ({"exit_code": Code.INTERNAL, "message": "KeyError:\n 'x'"}, "InternalError", "Rank 1 failed: KeyError: 'x'"),
    ({"exit_code": 1}, "InternalError", "Rank 1 failed: The worker failed unexpectedly."),
    ({"exit_code": Code.STORAGE_UNAVAILABLE, "message": "503"}, "StorageUnavailable", "Rank 1 failed: 503"),
    ({"exit_code": Code.DISK_FULL, "message": "full"}, "DiskFull", "Rank 1 failed: full"),
    ({"exit_code": Code.OUT_OF_MEMORY, "message": "OOM"}, "OutOfMemory", "Rank 1 failed: OOM"),
    ({"exit_code": Code.HUNG, "message": "slow"}, "Hung", "Rank 1 failed: slow"),
    ({"state": "idle"}, "InternalError", "Rank 1 lost its training process."),
]


@pytest.mark.parametrize(("end", "reason", "message"), FAILURES)
def test_a_failure_that_may_pass_ends_the_generation_everywhere_and_starts_the_next(end, reason, message):
    group = Group(3)
    group.start(step=5)
    group.wait(1)
    group.report(1, **{"state": "ended", **end})
    group.settle()
    assert group.actions() == {0: "stop", 1: "wait", 2: "stop"}
    assert group.order(0).message == f"{message} Waiting for ranks 0 and 2."
    group.wait(2, follows=True)
    assert group.actions() == {0: "run", 1: "run", 2: "run"}
    assert group.order(0).generation == 2
    (record,) = group.order(0).recoveries
    assert (record.generation, record.rank, record.reason, record.message) == (1, 1, reason, message)


@pytest.mark.parametrize(
    "code", [code for code, outcome in exit_codes.OUTCOMES.items() if code and not outcome.is_retryable]
)
def test_a_permanent_failure_ends_the_job_with_the_guilty_ranks_code(code):
    group = Group(3)
    group.start()
    group.report(2, state="ended", exit_code=code, message="no hope")
    assert group.leave_codes() == {0: Code.PEER_LOST, 1: Code.PEER_LOST, 2: code}
    assert group.order(0).message == "Rank 2 failed: no hope"
    assert group.coordinator.is_over


def test_a_fenced_group_leaves_to_the_one_that_took_over():
    group = Group(2)
    group.start()
    group.report(0, state="ended", exit_code=Code.FENCED)
    assert group.leave_codes() == {0: Code.FENCED, 1: Code.PEER_LOST}


def test_done_members_stay_done_and_the_last_ends_the_job():
    group = Group(3)
    group.start()
    group.report(1, state="ended", exit_code=0)
    group.report(2, state="ended", exit_code=0)
    group.lose(2)  # nothing more is wanted of it
    group.wait(70)
    assert group.actions() == {0: "run", 1: "run"}
    group.report(0, state="ended", exit_code=0)
    assert group.leave_codes() == {0: 0, 1: 0}


def test_a_failure_behind_a_members_end_takes_that_member_in_again():
    group = Group(2)
    group.start()
    group.report(1, state="ended", exit_code=0)
    group.report(0, state="ended", exit_code=-9, phase="publishing")
    group.wait(2, follows=True)
    assert group.actions() == {0: "run", 1: "run"}
    assert group.order(1).generation == 2


# The end of each rank in the order of time (seconds after the first), and who is guilty.
CAUSES = [
    ([(0, 0, Code.PEER_LOST), (0.5, 1, -9)], 1),
    ([(0, 0, Code.PEER_LOST), (0.9, 1, Code.INTERNAL)], 1),
    ([(0, 0, Code.INTERNAL), (0.9, 1, -9)], 1),  # an odd error behind a peer's death
    ([(0, 0, Code.INTERNAL), (0.5, 1, Code.INTERNAL)], 0),  # of two alike the first
    ([(0, 1, Code.INTERNAL), (0.5, 0, Code.PEER_LOST)], 1),
    ([(0, 0, Code.PEER_LOST), (0.5, 1, Code.PEER_LOST), (0.7, 2, Code.PEER_LOST)], None),
    ([(0, 0, Code.PEER_LOST)], None),  # whoever complains is not guilty, even alone
    ([(0, 0, Code.PEER_LOST), (0.5, 1, "lost")], 1),
    ([(0, 1, "lost"), (0.5, 0, Code.PEER_LOST)], 1),
    ([(0, 0, "lost"), (0.5, 1, -11)], 1),
]


@pytest.mark.parametrize(("ends", "guilty"), CAUSES)
def test_the_cause_is_looked_for_in_the_second_after_the_first_failure(ends, guilty):
    group = Group(3)
    group.start()
    passed = 0.0
    for seconds, rank, end in ends:
        if seconds > passed:
            group.wait(seconds - passed)
            passed = seconds
        if end == "lost":
            group.lose(rank)
        else:
            group.report(rank, state="ended", exit_code=end)
    group.settle()
    assert group.order(2).recoveries[-1].rank == guilty


def test_whoever_lost_a_peer_waits_for_the_silent_one_to_be_found_frozen():
    group = Group(3)
    group.start()
    group.mute.add(2)
    group.wait(2)
    group.report(0, state="ended", exit_code=Code.PEER_LOST)
    group.report(1, state="ended", exit_code=Code.PEER_LOST)
    group.settle()
    (record,) = group.order(0).recoveries
    assert (record.rank, record.reason, record.message) == (2, "Frozen", "Rank 2's worker was silent for 6 s.")


def test_a_training_process_without_a_heartbeat_is_guilty_before_those_that_lost_it():
    group = Group(2)
    group.start()
    group.report(1, silent_seconds=3.0)
    group.report(0, state="ended", exit_code=Code.PEER_LOST)
    group.wait(1.5)
    assert group.coordinator.phase is Phase.CHECKING
    group.settle()
    (record,) = group.order(0).recoveries
    assert (record.rank, record.reason, record.message) == (1, "Frozen", "Rank 1 fell silent.")


def test_a_lost_connection_that_comes_back_at_once_is_no_failure():
    group = Group(2)
    group.start()
    lost = group.lose(1)
    group.wait(0.5)
    group.come_back(lost)
    assert group.actions() == {0: "run", 1: "run"}
    group.wait(2)
    assert (group.coordinator.generation, group.coordinator.phase) == (1, Phase.RUNNING)


def test_a_supervisor_that_is_silent_counts_as_frozen_and_may_come_back():
    group = Group(2)
    group.start()
    group.mute.add(1)
    group.wait(5.9)
    assert group.coordinator.phase is Phase.RUNNING
    group.wait(1.3)
    assert group.order(0).action == "stop"
    assert group.coordinator.is_silent(1, "first-1")
    group.mute.clear()
    group.wait(3, follows=True)
    assert group.order(1).generation == 2
    assert group.actions() == {0: "run", 1: "run"}


def test_a_new_supervisor_of_a_rank_replaces_the_old_one_for_good():
    group = Group(2)
    group.start()
    old = group.lose(1)
    group.join(1, incarnation="second")
    assert group.order(1).action == "wait"  # it must not run the generation that its predecessor ran
    group.wait(3, follows=True)
    assert group.order(1).action == "run"
    assert group.order(1).generation == 2
    assert group.order(0).recoveries[-1].message == "Rank 1's worker was lost and came back."
    group.come_back(old)
    stale = group.order(1)
    assert (stale.action, stale.exit_code) == ("leave", Code.PEER_LOST)
    assert stale.message == "Another worker has taken the place of rank 1."
    assert group.coordinator.order_for(1, "second").action == "run"


@pytest.mark.parametrize("suspect", ["frozen", "step", "start", "checkpoint", "evaluation", "export"])
def test_a_hang_takes_everybodys_stacks_then_the_judges_word_counts(suspect):
    group = Group(3, judge=Guilt(1, "Hung", "Rank 1 is stuck before step 8."))
    group.start(step=7)
    group.report(0, suspect=suspect, message="Rank 0 waits.")
    assert group.actions() == {0: "dump", 1: "dump", 2: "dump"}
    group.report(0, has_dump=True)
    group.report(1, has_dump=True)
    assert group.actions() == {0: "dump", 1: "dump", 2: "dump"}
    group.report(2, has_dump=True)
    assert group.actions() == {0: "stop", 1: "stop", 2: "stop"}
    assert [report.rank for report in group.judged[0]] == [0, 1, 2]
    group.follow()
    assert set(group.actions().values()) == {"run"}
    (record,) = group.order(0).recoveries
    assert (record.rank, record.reason, record.message) == (1, "Hung", "Rank 1 is stuck before step 8.")


def test_stacks_that_do_not_come_are_waited_for_three_seconds():
    group = Group(2)
    group.start()
    group.report(1, suspect="frozen", message="Rank 1 is frozen.")
    group.wait(2.8)
    assert group.actions() == {0: "dump", 1: "dump"}
    group.wait(0.4)
    assert group.actions() == {0: "stop", 1: "stop"}
    assert group.order(0).recoveries[-1].message == "Rank 1 is frozen."  # the judge named nobody
    assert group.order(0).recoveries[-1].rank is None


@pytest.mark.parametrize("held_up", [{"waiting_for": "input"}, {"waiting_for": "storage"}, {"phase": "checkpointing"}])
def test_wait_for_a_rank_that_waits_within_its_own_time_is_no_hang(held_up):
    group = Group(2)
    group.start()
    group.report(1, **held_up)
    group.report(0, suspect="step")
    group.wait(30)
    assert group.actions() == {0: "run", 1: "run"}
    group.report(1, **held_up, suspect="step")  # now its time is over too
    assert group.actions() == {0: "dump", 1: "dump"}


def test_a_suspicion_that_passes_while_stacks_are_taken_ends_nothing():
    group = Group(2)
    group.start()
    group.report(1, suspect="step")
    group.wait(1)
    group.report(1, suspect="")
    group.wait(3)
    assert group.actions() == {0: "run", 1: "run"}
    assert group.order(0).recoveries == ()


def test_a_rank_that_only_lost_its_peer_is_never_judged_guilty():
    group = Group(2, judge=Guilt(0, "Hung", "Rank 0 is behind."))
    group.start()
    group.report(0, state="ended", exit_code=Code.PEER_LOST)
    group.report(1, suspect="frozen", message="Rank 1 is frozen.")
    group.settle()
    (record,) = group.order(0).recoveries
    assert (record.rank, record.message) == (None, "Rank 1 is frozen.")


def test_a_death_while_stacks_are_taken_counts_where_the_judge_names_nobody():
    group = Group(2)
    group.start()
    group.report(0, suspect="step")
    group.report(1, state="ended", exit_code=-9)
    group.settle()
    assert group.order(0).recoveries[-1].rank == 1


def test_a_final_failure_while_stacks_are_taken_ends_the_job():
    group = Group(2, judge=Guilt(0, "Hung", "Rank 0 hangs."))
    group.start()
    group.report(0, suspect="step", has_dump=False)
    group.report(1, state="ended", exit_code=Code.DATA_CORRUPT)
    group.settle()
    assert group.leave_codes() == {0: Code.PEER_LOST, 1: Code.DATA_CORRUPT}


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


# Two crashes of rank 1: status, phase, steps made since the checkpoint of step 100; and whether the group gives up.
CRASHES = [
    ([(Code.INTERNAL, "training", 5)] * 2, True),
    ([(-signal.SIGSEGV, "training", 5)] * 2, True),
    ([(-signal.SIGKILL, "training", 5)] * 2, True),
    ([(Code.OUT_OF_MEMORY, "training", 5)] * 2, True),
    ([(-signal.SIGSEGV, "training", 0)] * 2, True),
    ([(Code.INTERNAL, "publishing", 0)] * 2, True),
    ([(-signal.SIGKILL, "training", 0)] * 2, False),  # two kills in the long first step of a process
    ([(-signal.SIGKILL, "publishing", 5)] * 2, False),
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
        assert group.leave_codes() == {0: Code.PEER_LOST, 1: Code.INTERNAL}
        assert f"twice at step {101 + crashes[0][2]}" in group.order(0).message


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


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rank": 2}, "rank must be below 2, got 2"),
        ({"rank": 1, "generation": 900_000}, "generation must be at most 20001, got 900000"),
    ],
)
def test_a_report_that_cannot_be_true_is_refused(fields, words):
    group = Group(2)
    rank = fields.pop("rank")
    with pytest.raises(ValueError, match=words):
        group.join(rank, **fields)


def test_many_ranks_fit_one_line():
    group = Group(64)
    group.join(0)
    assert group.order(0).message == "Waiting for ranks 1, 2, 3 and 60 more."
