"""Recoveries in place: what the status, the events and the phase say of them."""

import dataclasses
import json
from typing import Any

import pytest

import observations as o
from imagetrain_api import status as api_status
from imagetrain_operator import observed
from imagetrain_operator.plan import conditions
from imagetrain_operator.plan.draft import Plan

KILLED = "Rank 1 was killed (SIGKILL)"
LINE = f"{KILLED} at step 120; the group goes on from step 100 in place, 8.4 s lost."


def told(generation: int = 1, **changes: Any) -> dict[str, Any]:
    """Return a recovery as a chief tells of it."""
    return {
        "generation": generation,
        "reason": "Killed",
        "rank": 1,
        "message": f"{KILLED}.",
        "step": 120,
        "resumedStep": 100,
        "detectedAt": o.NOW.timestamp(),
        "resumedAt": o.NOW.timestamp() + 8.2,
        "lostSeconds": 8.4321,
        **changes,
    }


def follow(job: observed.TrainingJob, *recoveries: dict[str, Any], phase: str = "training", step: int = 130) -> Plan:
    """Decide on a running group whose chief tells of recoveries."""
    report = o.report(phase, step=step, totalSteps=600, recoveries=list(recoveries))
    return o.plan(job, children_=(o.build_child(),), pods=o.RUNNING, progress_=report)


def test_a_recovery_is_kept_and_told_in_one_line() -> None:
    made = follow(o.training(), told())
    assert [(event.kind, event.reason, event.message) for event in made.events] == [("Warning", "Recovered", LINE)]
    assert made.status.recoveries == (
        api_status.RecoveryStatus(
            attempt=0,
            generation=1,
            message=LINE,
            time="2026-03-01T12:00:00Z",
            reason="Killed",
            rank=1,
            step=120,
            resumed_step=100,
            lost_seconds=8.4,
        ),
    )
    assert made.status.phase == "Training"


def test_a_recovery_that_the_status_holds_is_not_told_again() -> None:
    """An operator that has started anew knows the status alone."""
    job = o.carried(o.training(), follow(o.training(), told()))
    assert o.reasons(follow(job, told())) == []
    later = follow(job, told(), told(2, step=140, rank=0, message="Rank 0 froze."))
    assert [event.message for event in later.events] == [
        "Rank 0 froze at step 140; the group goes on from step 100 in place, 8.4 s lost."
    ]
    assert [each.generation for each in later.status.recoveries] == [1, 2]


def test_stacks_that_lie_in_the_store_after_the_group_has_gone_on_are_added_to_the_record() -> None:
    job = o.carried(o.training(), follow(o.training(), told()))
    made = follow(job, told(dumpUri="s3://models/stacks.txt"))
    (record,) = made.status.recoveries
    assert record.dump_uri == "s3://models/stacks.txt"
    assert o.reasons(made) == []
    assert made.status.restarts == job.status.restarts


def test_the_next_attempt_counts_its_generations_anew_or_not_and_keeps_the_records() -> None:
    job = o.carried(o.training(), follow(o.training(), told()))
    second = dataclasses.replace(job, status=dataclasses.replace(job.status, attempt=1))
    report = o.report(step=130, totalSteps=600, recoveries=[told()])
    pods = (o.build_pod(0, 1), o.build_pod(1, 1))
    made = o.plan(second, children_=(o.build_child(1),), pods=pods, progress_=report)
    assert [(each.attempt, each.generation) for each in made.status.recoveries] == [(0, 1), (1, 1)]


def test_a_recovery_is_told_when_it_is_over() -> None:
    running = told(resumedAt=None)
    assert o.reasons(follow(o.training(), running)) == []
    made = follow(o.training(), running, told(2, resumedAt=None))
    assert [event.message for event in made.events] == [
        f"{KILLED} at step 120; the group failed again before it had caught up, 8.4 s lost."
    ]


def test_the_newest_ten_are_kept() -> None:
    job = o.training(recovery={"maxRestarts": 12})
    first = follow(job, *(told(number) for number in range(1, 11)))
    made = follow(o.carried(job, first), *(told(number) for number in range(3, 13)))
    assert [each.generation for each in made.status.recoveries] == list(range(3, 13))
    assert o.reasons(made) == ["Recovered", "Recovered"]


def test_a_recovery_is_written_at_once() -> None:
    job = o.training()
    made = follow(job, told())
    assert not conditions.is_minor_change(job.status, made.status)
    assert not conditions.is_ordinary_change(job.status, made.status)


def test_a_group_that_starts_again_in_place_says_so_and_keeps_its_progress() -> None:
    job = o.training()
    made = follow(job, told(resumedAt=None, resumedStep=None), phase="starting", step=0)
    assert (made.status.phase, made.status.reason, made.status.ready) == ("Restarting", "Killed", "2/2")
    assert made.status.message == f"{KILLED} at step 120; the group starts again in place, from its newest checkpoint."
    assert o.conditions_of(made)["Training"] == ("False", "Killed")
    assert o.conditions_of(made)["WorkersReady"] == ("True", "WorkersReady")
    assert made.status.progress == job.status.progress
    assert made.events == ()


def test_a_restart_in_place_is_no_new_start_of_training() -> None:
    restarting = o.carried(o.training(), follow(o.training(), told(resumedAt=None), phase="starting", step=0))
    made = follow(restarting, told())
    assert (made.status.phase, made.status.reason) == ("Training", "Training")
    assert o.reasons(made) == ["Recovered"]


def test_an_operator_that_starts_during_a_restart_in_place_leaves_it_as_it_is() -> None:
    restarting = o.carried(o.training(), follow(o.training(), told(resumedAt=None), phase="starting", step=0))
    made = o.plan(restarting, children_=(o.build_child(),), pods=o.RUNNING)
    assert (made.status, made.chief_ip) == (restarting.status, "10.0.0.1")


def test_a_hang_shows_where_its_stacks_lie_and_their_head() -> None:
    hung = told(reason="Hung", dumpUri="s3://m/r/incidents/generation-0001-rank-1.txt", dumpHead="loop.py:12 in run")
    (kept,) = follow(o.training(), hung).status.recoveries
    assert (kept.dump_uri, kept.dump_head) == ("s3://m/r/incidents/generation-0001-rank-1.txt", "loop.py:12 in run")


def test_an_odd_time_and_a_long_message_do_no_harm() -> None:
    (kept,) = follow(o.training(), told(detectedAt=1e300, message="x" * 512)).status.recoveries
    assert kept.time is None
    assert len(kept.message) <= api_status.MAX_MESSAGE_CHARACTERS


def test_a_recovery_just_before_the_end_is_told_by_the_outcome() -> None:
    outcome = {"recoveries": [told(), told(2, step=140, rank=0, message="Rank 0 froze.")]}
    job = o.carried(o.training(), follow(o.training(), told()))
    made = o.plan(job, children_=(o.build_child(),), pods=(o.succeeded(0, outcome=outcome), o.succeeded(1)))
    assert made.status.phase == "Succeeded"
    assert [each.generation for each in made.status.recoveries] == [1, 2]
    assert o.reasons(made) == ["Recovered", "Completed"]


def test_recoveries_of_an_attempt_that_failed_are_told_with_its_number() -> None:
    message = json.dumps({"exitCode": 80, "reason": "PeerLost", "message": "", "recoveries": [told()]})
    pods = (o.failed(0, 80, exit_message=message), o.failed(1, 80))
    made = o.plan(o.training(), children_=(o.build_child(is_failed=True),), pods=pods)
    assert made.status.attempt == 1
    assert [(each.attempt, each.generation) for each in made.status.recoveries] == [(0, 1)]
    assert o.reasons(made) == ["Recovered", "PeerLost"]
    again = o.plan(o.carried(o.training(), made), pods=pods)
    assert "Recovered" not in o.reasons(again)


def test_a_recovery_that_this_version_cannot_read_costs_nothing_else() -> None:
    outcome = {"manifestUri": "s3://demo/models/digits/runs/r1/manifest.json", "recoveries": [told(newerKey=1)]}
    made = o.plan(o.training(), children_=(o.build_child(),), pods=(o.succeeded(0, outcome=outcome), o.succeeded(1)))
    assert made.status.outputs is not None
    assert made.status.recoveries == ()


@pytest.mark.parametrize(
    ("reason", "counted"),
    [
        ("Killed", 1),
        ("OutOfMemory", 1),
        ("Hung", 1),
        ("Frozen", 1),
        ("InternalError", 1),
        ("Lost", 0),  # the pod was taken away
        ("PeerLost", 0),  # a connection broke, and no worker failed
        ("Preempted", 0),
    ],
)
def test_recoveries_for_which_the_job_is_to_blame_count_as_restarts(reason: str, counted: int) -> None:
    job = o.training()
    made = follow(job, told(reason=reason))
    assert made.status.restarts == counted
    assert follow(o.carried(job, made), told(reason=reason)).status.restarts == counted  # once


def test_recoveries_in_place_and_restarts_of_the_group_share_one_limit() -> None:
    job = o.training(recovery={"maxRestarts": 3})
    job = o.carried(job, follow(job, told(1), told(2)))
    ended = (o.failed(0, 81), o.failed(1, 80))
    job = o.carried(job, o.plan(job, children_=(o.build_child(is_failed=True),), pods=ended))
    assert (job.status.attempt, job.status.restarts) == (1, 3)
    report = o.report(step=150, totalSteps=600, recoveries=[told(4)])
    pods = (o.build_pod(0, 1), o.build_pod(1, 1))
    made = o.plan(job, children_=(o.build_child(1),), pods=pods, progress_=report)
    assert (made.status.phase, made.status.reason, made.status.restarts) == ("Failed", "MaxRestartsExceeded", 4)
    assert KILLED in made.status.message
    assert "spec.recovery.maxRestarts allows 3 restarts." in made.status.message
    assert [child.name for child in made.delete_children] == ["digits-1"]
    assert o.reasons(made)[-1] == "MaxRestartsExceeded"


def test_a_group_that_publishes_is_let_finish_however_often_it_recovered() -> None:
    job = o.training(recovery={"maxRestarts": 0})
    assert follow(job, told(), phase="publishing").status.phase == "Publishing"
    resumed = o.carried(job, follow(job, told(), phase="publishing"))
    assert follow(resumed, told()).status.phase == "Training"  # one that was let pass is not held against it later
