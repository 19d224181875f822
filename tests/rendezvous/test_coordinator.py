import signal

import pytest

from imagetrain_api import exit_codes
from imagetrain_trainer.rendezvous import coordinator
from rendezvous_groups import Group

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
    assert (record.rank, record.reason) == (1, "Frozen")
    assert record.message == "Rank 1 fell silent: frozen, or cut off from rank 0."


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


def test_rank_0_is_blamed_where_all_others_vanish_at_the_same_moment():
    group = Group(4)
    group.start()
    group.mute.update((1, 2, 3))  # its network is cut
    group.settle()
    (record,) = group.order(0).recoveries
    assert (record.rank, record.reason) == (0, "Lost")
    assert record.message.startswith("Rank 0 lost all 3 others at the same moment;")
    group.mute.clear()
    group.wait(3, follows=True)
    assert set(group.actions().values()) == {"run"}


@pytest.mark.parametrize("apart", [2.0, 30.0])
def test_others_that_vanish_one_after_the_other_are_to_blame_themselves(apart):
    group = Group(3)
    group.start()
    group.mute.add(1)
    group.wait(apart)
    group.mute.add(2)
    group.settle()
    assert group.order(0).recoveries[0].message == "Rank 1's worker was silent for 6 s."


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
