"""The decisions, without a cluster: what is done and said in each state a job can be in."""

import dataclasses
from typing import Any

import pytest

import observations as o
from imagetrain_api import rules
from imagetrain_api.status import JobStatus
from imagetrain_operator import observed
from imagetrain_operator.plan import conditions
from imagetrain_operator.plan.draft import Plan

RUNNING = (o.build_pod(0), o.build_pod(1))


def conditions_of(made: Plan) -> dict[str, tuple[str, str]]:
    return {each.type: (each.status, each.reason) for each in made.status.conditions}


def reasons(made: Plan) -> list[str]:
    return [event.reason for event in made.events]


def training(**spec: Any) -> observed.TrainingJob:
    job = o.begun(**spec)
    return o.carried(job, o.plan(job, children_=(o.build_child(),), pods=RUNNING, progress_=o.report(step=3)))


def test_new_job_gets_its_first_attempt() -> None:
    made = o.plan(o.build_job())
    assert made.start_attempt == 0
    assert (made.status.phase, made.status.attempt, made.status.ready) == ("Starting", 0, "0/2")
    assert made.status.run_id == "digits-6b1f0a44"
    assert conditions_of(made)["Accepted"] == ("True", "ValidSpec")
    assert reasons(made) == ["Started"]
    assert made.requeue_after_seconds is not None  # a Job whose pods are refused has no further event


def test_same_observation_gives_the_same_plan() -> None:
    assert o.plan(o.build_job()) == o.plan(o.build_job())


def test_attempt_in_the_status_is_asked_for_again_until_its_job_exists() -> None:
    assert o.plan(o.begun(), now=o.after(1)).start_attempt == 0
    assert o.plan(o.begun(), children_=(o.build_child(),), now=o.after(1)).start_attempt is None


def test_invalid_manifest_starts_nothing_and_names_the_field() -> None:
    job = dataclasses.replace(
        o.build_job(), job=None, errors=(rules.FieldError("spec.workers", "be an integer >= 1", 0),)
    )
    made = o.plan(job)
    assert made.start_attempt is None
    assert conditions_of(made)["Accepted"] == ("False", "InvalidSpec")
    assert "spec.workers must be an integer >= 1, got 0." in made.status.message
    assert reasons(o.plan(o.carried(job, made))) == []  # said once


def test_job_that_is_deleted_is_left_alone() -> None:
    made = o.plan(dataclasses.replace(training(), is_deleting=True), children_=(o.build_child(),), pods=RUNNING)
    assert (made.start_attempt, made.delete_children, made.events) == (None, (), ())


def test_ready_workers_without_a_step_are_starting() -> None:
    made = o.plan(o.begun(), children_=(o.build_child(),), pods=RUNNING)
    assert (made.status.phase, made.status.reason, made.status.ready) == ("Starting", "WorkersReady", "2/2")
    assert made.chief_ip == "10.0.0.1"


def test_progress_of_the_chief_becomes_the_columns() -> None:
    told = o.report(step=40, epoch=2, imagesPerSecond=812.34, etaSeconds=75, loss=0.51234, validationAccuracy=0.91)
    made = o.plan(o.begun(), children_=(o.build_child(),), pods=RUNNING, progress_=told)
    figures = made.status.progress
    assert made.status.phase == "Training"
    assert conditions_of(made)["Training"] == ("True", "Training")
    assert figures is not None
    assert (figures.epochs, figures.steps, figures.eta) == ("2/5", "40/100", "1m15s")
    assert (figures.images_per_second, figures.loss, figures.accuracy) == (812.3, 0.5123, 0.91)


def test_progress_alone_is_a_minor_change() -> None:
    job = training()
    made = o.plan(job, children_=(o.build_child(),), pods=RUNNING, progress_=o.report(step=4))
    assert made.status != job.status
    assert conditions.is_minor_change(job.status, made.status)


def test_change_of_phase_is_not_a_minor_change() -> None:
    job = training()
    made = o.plan(job, children_=(o.build_child(),), pods=RUNNING, progress_=o.report("publishing", step=100))
    assert made.status.phase == "Publishing"
    assert not conditions.is_minor_change(job.status, made.status)


def test_nothing_new_gives_the_same_status() -> None:
    job = training()
    made = o.plan(job, children_=(o.build_child(),), pods=RUNNING, progress_=o.report(step=3), now=o.after(30))
    assert made.status == job.status
    assert made.events == ()


def test_success_shows_what_was_published() -> None:
    outcome = {
        "manifestUri": "s3://demo/models/digits/runs/r/manifest.json",
        "summary": {
            "epochs": 5,
            "steps": 100,
            "test_accuracy": 0.99441,
            "images_per_second": 1234.56,
            "artifacts": [
                {"format": "saved_model", "path": "saved_model", "sizeBytes": 10, "accuracy": 0.99441},
                {"format": "tflite_int8", "sizeBytes": 5, "accuracy": 0.5},
            ],
        },
    }
    pods = (o.succeeded(0, outcome=outcome), o.succeeded(1))
    made = o.plan(training(), children_=(o.build_child(),), pods=pods, now=o.after(60))
    assert made.status.phase == "Succeeded"
    assert made.status.completion_time == "2026-03-01T12:01:00Z"
    assert made.status.outputs is not None
    assert [artifact.uri for artifact in made.status.outputs.artifacts] == [
        "s3://demo/models/digits/runs/r/saved_model",
        None,  # the gate refused it
    ]
    assert made.status.progress is not None
    assert (made.status.progress.accuracy, made.status.progress.steps) == (0.9944, "100/100")
    assert "The gate refused tflite_int8." in made.status.message
    assert reasons(made) == ["Completed"]


@pytest.mark.parametrize(
    "pods",
    [
        (o.succeeded(0), o.build_pod(1)),  # the other worker still ends
        (o.build_pod(0), o.succeeded(1)),  # the chief publishes
        (o.succeeded(0),),  # the other's pod is not seen yet
    ],
)
def test_no_success_before_every_worker_has_ended(pods: tuple[observed.Pod, ...]) -> None:
    made = o.plan(training(), children_=(o.build_child(),), pods=pods, progress_=o.report("publishing"))
    assert made.status.phase == "Publishing"


def test_published_run_succeeds_though_another_worker_is_lost_afterwards() -> None:
    pods = (o.succeeded(0, outcome={"manifestUri": "s3://demo/m/runs/r/manifest.json"}), o.failed(1, 137))
    assert o.plan(training(), children_=(o.build_child(is_failed=True),), pods=pods).status.phase == "Succeeded"


def test_complete_job_succeeds_though_its_pods_are_gone() -> None:
    assert o.plan(training(), children_=(o.build_child(is_complete=True),)).status.phase == "Succeeded"


def test_failed_worker_waits_for_its_peers_and_then_restarts_the_whole_group() -> None:
    job = training()
    first = o.plan(job, children_=(o.build_child(is_failed=True),), pods=(o.build_pod(0), o.failed(1, 137)))
    assert (first.status.phase, first.start_attempt, first.delete_children) == ("Restarting", None, ())
    assert first.status.message.endswith("Waiting for worker 0 to stop.")
    assert first.status.ready == "1/2"
    ended = (o.failed(0, 80), o.failed(1, 137, exit_reason="OOMKilled"))
    second = o.plan(o.carried(job, first), children_=(o.build_child(is_failed=True),), pods=ended, now=o.after(9))
    assert [child.name for child in second.delete_children] == ["digits-0"]
    assert second.start_attempt == 1
    assert (second.status.attempt, second.status.restarts, second.status.phase) == (1, 1, "Restarting")
    (record,) = second.status.attempts
    assert (record.attempt, record.reason, record.rank, record.exit_code, record.step) == (0, "OOMKilled", 1, 137, 3)


def test_permanent_failure_ends_the_job_at_once_and_keeps_the_pods() -> None:
    job = training()
    made = o.plan(job, children_=(o.build_child(),), pods=(o.build_pod(0), o.failed(1, 102)))
    assert (made.status.phase, made.status.reason, made.status.ready) == ("Failed", "AccessDenied", "0/2")
    assert (made.start_attempt, made.delete_children) == (None, ())
    assert conditions_of(made)["Failed"] == ("True", "AccessDenied")
    assert reasons(made) == ["AccessDenied"]


def test_restart_tells_once_where_the_next_attempt_goes_on() -> None:
    made = o.plan(training(), children_=(o.build_child(is_failed=True),), pods=(o.failed(0, 81), o.failed(1, 80)))
    assert made.status.message.endswith("Attempt 1 goes on from the newest checkpoint.")
    assert made.status.message.count("newest checkpoint") == 1


def test_restart_before_the_first_step_speaks_of_no_checkpoint() -> None:
    made = o.plan(o.begun(), children_=(o.build_child(is_failed=True),), pods=(o.failed(0, 81), o.failed(1, 80)))
    assert made.status.message.endswith("Attempt 1 follows.")
    assert "checkpoint" not in made.status.message


def test_restarts_are_counted_up_to_the_limit() -> None:
    job = training(recovery={"maxRestarts": 1})
    ended = (o.failed(0, 81), o.failed(1, 80))
    first = o.plan(job, children_=(o.build_child(is_failed=True),), pods=ended)
    again = (o.failed(0, 81, attempt=1), o.failed(1, 80, attempt=1))
    second = o.plan(o.carried(job, first), children_=(o.build_child(1, is_failed=True),), pods=again)
    assert (second.status.phase, second.status.reason) == ("Failed", "MaxRestartsExceeded")
    assert second.status.message.endswith("It is not started again, for spec.recovery.maxRestarts allows 1 restart.")
    assert "resumes" not in second.status.message
    assert [record.reason for record in second.status.attempts] == ["Hung", "Hung"]


def test_disruptions_are_not_counted_as_restarts() -> None:
    job = training(recovery={"maxRestarts": 0})
    pods = (o.failed(0, 80), o.failed(1, 143, disruption="EvictionByEvictionAPI"))
    made = o.plan(job, children_=(o.build_child(is_failed=True),), pods=pods)
    assert (made.start_attempt, made.status.restarts) == (1, 0)
    assert made.status.attempts[0].reason == "Evicted"


def test_quick_failures_in_a_row_are_started_again_at_growing_intervals() -> None:
    job, waits = training(), []
    for attempt in range(4):
        pods = (o.failed(0, 110, attempt), o.failed(1, 80, attempt))
        made = o.plan(job, children_=(o.build_child(attempt, is_failed=True),), pods=pods)
        waits.append(0.0 if made.start_attempt is not None else made.requeue_after_seconds)
        job = o.carried(job, made)
    assert waits == [0.0, 10.0, 20.0, 40.0]


def test_long_attempts_are_followed_at_once() -> None:
    job = training()
    for attempt in range(3):
        pods = (o.failed(0, 110, attempt), o.failed(1, 80, attempt))
        child = o.build_child(attempt, is_failed=True)
        made = o.plan(job, children_=(child,), pods=pods, now=o.after(200.0 * (attempt + 1)))
        assert made.start_attempt == attempt + 1
        job = o.carried(job, made)


def test_next_attempt_waits_for_pods_that_still_save() -> None:
    job = training()
    gone = o.build_pod(1, deletion_deadline=o.after(120))
    made = o.plan(job, pods=(o.build_pod(0, deletion_deadline=o.after(120)), gone))  # somebody deleted the Job
    assert made.start_attempt is None
    assert made.requeue_after_seconds == pytest.approx(125.5)


def test_pod_on_a_dead_node_does_not_hold_the_next_attempt() -> None:
    job = training()
    lost = o.build_pod(1, is_node_lost=True, deletion_deadline=o.after(120))
    made = o.plan(job, children_=(o.build_child(is_failed=True),), pods=(o.failed(0, 80), lost))
    assert made.start_attempt == 1
    assert made.status.attempts[0].reason == "NodeLost"


def test_pod_that_was_sent_to_a_dead_node_does_not_hold_the_group() -> None:
    sent = o.pending(1, deletion_deadline=o.after(120), disruption="DeletionByTaintManager")
    made = o.plan(training(), children_=(o.build_child(),), pods=(o.build_pod(0), sent))
    assert [child.name for child in made.delete_children] == ["digits-0"]
    assert (made.status.attempt, made.status.attempts[0].reason) == (1, "NodeLost")


def test_silent_node_is_named() -> None:
    made = o.plan(training(), children_=(o.build_child(),), pods=(o.build_pod(0), o.build_pod(1, is_node_lost=True)))
    assert made.status.reason == "NodeNotReady"
    assert "n2" in made.status.message


def test_pods_of_an_overdue_deletion_count_as_lost() -> None:
    job = training()
    stuck = o.build_pod(1, deletion_deadline=o.NOW)
    made = o.plan(job, children_=(o.build_child(),), pods=(o.build_pod(0), stuck), now=o.after(60))
    assert [child.name for child in made.delete_children] == ["digits-0"]
    assert made.start_attempt is None  # rank 0 saves first
    assert made.status.attempt == 1


def test_suspension_stops_the_pods_and_then_holds_nothing() -> None:
    job = training(suspend=True)
    job = dataclasses.replace(job, status=training().status)
    first = o.plan(job, children_=(o.build_child(),), pods=RUNNING)
    assert [child.name for child in first.delete_children] == ["digits-0"]
    assert first.status.phase == "Suspending"
    second = o.plan(o.carried(job, first), pods=(o.failed(0, 82),), now=o.after(5))
    assert (second.status.phase, second.status.ready) == ("Suspended", "0/2")
    assert conditions_of(second)["Suspended"] == ("True", "SuspendRequested")
    assert second.status.attempts[-1].reason == "Suspended"
    assert second.requeue_after_seconds is None


def test_job_suspended_from_the_start_makes_nothing() -> None:
    made = o.plan(o.build_job(suspend=True))
    assert (made.status.phase, made.start_attempt, made.status.attempt) == ("Suspended", None, None)


def test_resumed_job_goes_on_with_a_new_attempt_and_a_new_deadline() -> None:
    suspended = dataclasses.replace(o.build_job(suspend=True), status=training().status)
    suspended = o.carried(suspended, o.plan(suspended))
    job = dataclasses.replace(o.build_job(), status=suspended.status)
    made = o.plan(job, now=o.after(3600))
    assert (made.start_attempt, made.status.restarts) == (1, 0)
    assert made.status.start_time == "2026-03-01T13:00:00Z"
    assert conditions_of(made)["Suspended"] == ("False", "Resumed")
    assert made.status.run_id == "digits-6b1f0a44"
    assert o.plan(o.carried(job, made), children_=(o.build_child(1),), now=o.after(3601)).status.phase == "Starting"


def test_job_suspended_from_the_start_begins_when_it_is_resumed() -> None:
    held = o.build_job(suspend=True)
    made = o.plan(dataclasses.replace(o.build_job(), status=o.plan(held).status))
    assert made.start_attempt == 0
    assert conditions_of(made)["Suspended"] == ("False", "Resumed")


def test_run_that_is_over_succeeds_though_it_is_to_be_suspended() -> None:
    job = dataclasses.replace(o.build_job(suspend=True), status=training().status)
    made = o.plan(job, children_=(o.build_child(),), pods=(o.succeeded(0), o.succeeded(1)))
    assert made.status.phase == "Succeeded"


def test_active_deadline_fails_the_job_and_stops_its_pods() -> None:
    job = training(activeDeadlineSeconds=60)
    before = o.plan(job, children_=(o.build_child(),), pods=RUNNING, now=o.after(50))
    assert before.requeue_after_seconds == pytest.approx(10)
    made = o.plan(job, children_=(o.build_child(),), pods=RUNNING, now=o.after(61))
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
    assert conditions_of(made)["WorkersReady"] == ("False", reason)
    assert made.investigate == (not pods)  # otherwise the pods tell
    assert reasons(made) == [reason]
    waits_on = o.plan(o.carried(job, made), children_=(o.build_child(),), pods=pods, denial=denial, now=o.after(20))
    assert waits_on.events == ()
    healed = o.plan(o.carried(job, made), children_=(o.build_child(),), pods=RUNNING, now=o.after(30))
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


def succeeded_job(**spec: Any) -> observed.TrainingJob:
    job = training(**spec)
    return o.carried(job, o.plan(job, children_=(o.build_child(is_complete=True),)))


def test_nothing_is_created_after_the_end() -> None:
    for job in (
        succeeded_job(),
        o.carried(training(), o.plan(training(), children_=(o.build_child(),), pods=(o.failed(0, 100),))),
    ):
        made = o.plan(job, now=o.after(1e6))
        assert (made.start_attempt, made.status, made.events) == (None, job.status, ())


def test_job_is_deleted_when_its_time_to_live_is_over() -> None:
    job = succeeded_job(ttlSecondsAfterFinished=100)
    assert o.plan(job, now=o.after(40)).requeue_after_seconds == pytest.approx(60)
    assert not o.plan(job, now=o.after(40)).delete_job
    assert o.plan(job, now=o.after(101)).delete_job


def test_end_is_written_before_the_job_is_deleted() -> None:
    job = training(ttlSecondsAfterFinished=0)
    made = o.plan(job, children_=(o.build_child(is_complete=True),))
    assert not made.delete_job
    assert o.plan(o.carried(job, made), children_=(o.build_child(is_complete=True),), now=o.after(1)).delete_job


def test_status_of_another_operators_making_is_taken_as_it_is() -> None:
    job = dataclasses.replace(o.build_job(), status=JobStatus(phase="Training", attempt=7, restarts=3))
    assert o.plan(job).start_attempt == 7
