"""Suspension, deadlines, and what waiting workers wait for."""

import dataclasses

import pytest

import observations as o
from imagetrain_operator import observed


def test_suspension_stops_the_pods_and_then_holds_nothing() -> None:
    job = o.training(suspend=True)
    job = dataclasses.replace(job, status=o.training().status)
    first = o.plan(job, children_=(o.build_child(),), pods=o.RUNNING)
    assert [child.name for child in first.delete_children] == ["digits-0"]
    assert first.status.phase == "Suspending"
    second = o.plan(o.carried(job, first), pods=(o.failed(0, 82),), now=o.after(5))
    assert (second.status.phase, second.status.ready) == ("Suspended", "0/2")
    assert o.conditions_of(second)["Suspended"] == ("True", "SuspendRequested")
    assert second.status.attempts[-1].reason == "Suspended"
    assert second.requeue_after_seconds is None


def test_job_suspended_from_the_start_makes_nothing() -> None:
    made = o.plan(o.build_job(suspend=True))
    assert (made.status.phase, made.start_attempt, made.status.attempt) == ("Suspended", None, None)


def test_resumed_job_goes_on_with_a_new_attempt_and_a_new_deadline() -> None:
    suspended = dataclasses.replace(o.build_job(suspend=True), status=o.training().status)
    suspended = o.carried(suspended, o.plan(suspended))
    job = dataclasses.replace(o.build_job(), status=suspended.status)
    made = o.plan(job, now=o.after(3600))
    assert (made.start_attempt, made.status.restarts) == (1, 0)
    assert made.status.start_time == "2026-03-01T13:00:00Z"
    assert o.conditions_of(made)["Suspended"] == ("False", "Resumed")
    assert made.status.run_id == "digits-6b1f0a44"
    assert o.plan(o.carried(job, made), children_=(o.build_child(1),), now=o.after(3601)).status.phase == "Starting"


def test_job_suspended_from_the_start_begins_when_it_is_resumed() -> None:
    held = o.build_job(suspend=True)
    made = o.plan(dataclasses.replace(o.build_job(), status=o.plan(held).status))
    assert made.start_attempt == 0
    assert o.conditions_of(made)["Suspended"] == ("False", "Resumed")


def test_run_that_is_over_succeeds_though_it_is_to_be_suspended() -> None:
    job = dataclasses.replace(o.build_job(suspend=True), status=o.training().status)
    made = o.plan(job, children_=(o.build_child(),), pods=(o.succeeded(0), o.succeeded(1)))
    assert made.status.phase == "Succeeded"


def test_active_deadline_fails_the_job_and_stops_its_pods() -> None:
    job = o.training(activeDeadlineSeconds=60)
    before = o.plan(job, children_=(o.build_child(),), pods=o.RUNNING, now=o.after(50))
    assert before.requeue_after_seconds == pytest.approx(10)
    made = o.plan(job, children_=(o.build_child(),), pods=o.RUNNING, now=o.after(61))
    assert (made.status.phase, made.status.reason) == ("Failed", "DeadlineExceeded")
    assert [child.name for child in made.delete_children] == ["digits-0"]


UNSCHEDULABLE = (
    o.pending(0, node="", unschedulable="0/2 nodes are available: 2 Insufficient nvidia.com/gpu."),
    o.pending(1, node="", unschedulable="0/2 nodes are available: 2 Insufficient nvidia.com/gpu."),
)
NO_IMAGE = (o.pending(0, waiting_reason="ImagePullBackOff", waiting_message='image "x"'), o.pending(1))
NO_SECRET = (
    o.pending(0, waiting_reason="CreateContainerConfigError", waiting_message='secret "s3" not found'),
    o.pending(1, waiting_reason="CreateContainerConfigError", waiting_message='secret "s3" not found'),
)
QUOTA = 'pods "digits-0-0-x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1'


@pytest.mark.parametrize(
    ("pods", "denial", "reason"),
    [
        (UNSCHEDULABLE, None, "Unschedulable"),
        (NO_IMAGE, None, "ImagePullFailed"),
        (NO_SECRET, None, "SecretMissing"),
        ((), observed.Denial(message=QUOTA), "QuotaExceeded"),
    ],
)
def test_waiting_workers_say_what_they_wait_for(
    pods: tuple[observed.Pod, ...], denial: observed.Denial | None, reason: str
) -> None:
    job = o.begun()
    early = o.plan(job, children_=(o.build_child(),), pods=pods, denial=denial, now=o.after(1))
    assert early.status.reason == "StartingWorkers"  # it may pass by itself
    made = o.plan(job, children_=(o.build_child(),), pods=pods, denial=denial, now=o.after(5))
    assert (made.status.phase, made.status.reason) == ("Pending", reason)
    assert o.conditions_of(made)["WorkersReady"] == ("False", reason)
    assert made.investigate == (not pods)  # otherwise the pods tell
    assert o.reasons(made) == [reason]
    waits_on = o.plan(o.carried(job, made), children_=(o.build_child(),), pods=pods, denial=denial, now=o.after(20))
    assert waits_on.events == ()
    healed = o.plan(o.carried(job, made), children_=(o.build_child(),), pods=o.RUNNING, now=o.after(30))
    assert (healed.status.phase, healed.status.ready) == ("Starting", "2/2")


@pytest.mark.parametrize(("pods", "reason"), [(NO_IMAGE, "ImagePullFailed"), (NO_SECRET, "SecretMissing")])
def test_workers_that_only_the_user_can_help_fail_after_the_start_timeout(
    pods: tuple[observed.Pod, ...], reason: str
) -> None:
    job = o.begun(recovery={"startTimeoutSeconds": 60})
    made = o.plan(job, children_=(o.build_child(),), pods=pods, now=o.after(61))
    assert (made.status.phase, made.status.reason) == ("Failed", reason)
    assert [child.name for child in made.delete_children] == ["digits-0"]  # gives the GPUs back


def test_lack_of_room_waits_for_ever_unless_a_deadline_is_set() -> None:
    waits = o.plan(o.begun(), children_=(o.build_child(),), pods=UNSCHEDULABLE, now=o.after(1e6))
    assert waits.status.phase == "Pending"
    job = o.begun(readyDeadlineSeconds=300)
    made = o.plan(job, children_=(o.build_child(),), pods=UNSCHEDULABLE, now=o.after(301))
    assert (made.status.phase, made.status.reason) == ("Failed", "NotReadyInTime")
    assert "spec.readyDeadlineSeconds" in made.status.message


def test_child_that_the_api_server_refuses_for_good_fails_the_job() -> None:
    denial = observed.Denial(message='Job.batch "digits-0" is invalid: spec.template.spec: bad', is_final=True)
    made = o.plan(o.begun(), denial=denial, now=o.after(1))
    assert (made.status.phase, made.start_attempt) == ("Failed", None)
