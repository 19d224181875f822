"""The decisions, without a cluster: a job on its way from a manifest to its models."""

import dataclasses
from typing import Any

import pytest

import observations as o
from imagetrain_api import rules
from imagetrain_api.status import JobStatus
from imagetrain_operator import observed
from imagetrain_operator.plan import conditions


def test_new_job_gets_its_first_attempt() -> None:
    made = o.plan(o.build_job())
    assert made.start_attempt == 0
    assert (made.status.phase, made.status.attempt, made.status.ready) == ("Starting", 0, "0/2")
    assert made.status.run_id == "digits-6b1f0a44"
    assert o.conditions_of(made)["Accepted"] == ("True", "ValidSpec")
    assert o.reasons(made) == ["Started"]
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
    assert o.conditions_of(made)["Accepted"] == ("False", "InvalidSpec")
    assert "spec.workers must be an integer >= 1, got 0." in made.status.message
    assert o.reasons(o.plan(o.carried(job, made))) == []  # said once


def test_job_that_is_deleted_is_left_alone() -> None:
    made = o.plan(dataclasses.replace(o.training(), is_deleting=True), children_=(o.build_child(),), pods=o.RUNNING)
    assert (made.start_attempt, made.delete_children, made.events) == (None, (), ())


def test_ready_workers_without_a_step_are_starting() -> None:
    made = o.plan(o.begun(), children_=(o.build_child(),), pods=o.RUNNING)
    assert (made.status.phase, made.status.reason, made.status.ready) == ("Starting", "WorkersReady", "2/2")
    assert made.chief_ip == "10.0.0.1"


def test_progress_of_the_chief_becomes_the_columns() -> None:
    told = o.report(step=40, epoch=2, imagesPerSecond=812.34, etaSeconds=75, loss=0.51234, validationAccuracy=0.91)
    made = o.plan(o.begun(), children_=(o.build_child(),), pods=o.RUNNING, progress_=told)
    figures = made.status.progress
    assert made.status.phase == "Training"
    assert o.conditions_of(made)["Training"] == ("True", "Training")
    assert figures is not None
    assert (figures.epochs, figures.steps, figures.eta) == ("2/5", "40/100", "1m15s")
    assert (figures.images_per_second, figures.loss, figures.accuracy) == (812.3, 0.5123, 0.91)


def test_progress_alone_is_a_minor_change() -> None:
    job = o.training()
    made = o.plan(job, children_=(o.build_child(),), pods=o.RUNNING, progress_=o.report(step=4))
    assert made.status != job.status
    assert conditions.is_minor_change(job.status, made.status)


def test_change_of_phase_is_not_a_minor_change() -> None:
    job = o.training()
    made = o.plan(job, children_=(o.build_child(),), pods=o.RUNNING, progress_=o.report("publishing", step=100))
    assert made.status.phase == "Publishing"
    assert not conditions.is_minor_change(job.status, made.status)


def test_nothing_new_gives_the_same_status() -> None:
    job = o.training()
    made = o.plan(job, children_=(o.build_child(),), pods=o.RUNNING, progress_=o.report(step=3), now=o.after(30))
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
    made = o.plan(o.training(), children_=(o.build_child(),), pods=pods, now=o.after(60))
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
    assert o.reasons(made) == ["Completed"]


@pytest.mark.parametrize(
    "pods",
    [
        (o.succeeded(0), o.build_pod(1)),  # the other worker still ends
        (o.build_pod(0), o.succeeded(1)),  # the chief publishes
        (o.succeeded(0),),  # the other's pod is not seen yet
    ],
)
def test_no_success_before_every_worker_has_ended(pods: tuple[observed.Pod, ...]) -> None:
    made = o.plan(o.training(), children_=(o.build_child(),), pods=pods, progress_=o.report("publishing"))
    assert made.status.phase == "Publishing"


def test_published_run_succeeds_though_another_worker_is_lost_afterwards() -> None:
    pods = (o.succeeded(0, outcome={"manifestUri": "s3://demo/m/runs/r/manifest.json"}), o.failed(1, 137))
    assert o.plan(o.training(), children_=(o.build_child(is_failed=True),), pods=pods).status.phase == "Succeeded"


def test_complete_job_succeeds_though_its_pods_are_gone() -> None:
    assert o.plan(o.training(), children_=(o.build_child(is_complete=True),)).status.phase == "Succeeded"


def test_status_of_another_operators_making_is_taken_as_it_is() -> None:
    job = dataclasses.replace(o.build_job(), status=JobStatus(phase="Training", attempt=7, restarts=3))
    assert o.plan(job).start_attempt == 7


@pytest.mark.parametrize(
    ("seen", "end"),
    [
        ({"pods": ()}, "Starting"),
        ({"pods": o.RUNNING}, "Starting"),
        ({"pods": o.RUNNING, "progress_": o.report(step=40)}, "Training"),
        ({"pods": tuple(dataclasses.replace(pod, phase="Succeeded", exit_code=0) for pod in o.RUNNING)}, "Succeeded"),
        ({"pods": (o.RUNNING[0], dataclasses.replace(o.RUNNING[1], phase="Failed", exit_code=80))}, "Restarting"),
    ],
)
def test_first_attempt_that_no_status_tells_of_is_known_by_its_job(seen: dict[str, Any], end: str) -> None:
    told = o.plan(o.begun(), children_=(o.build_child(),), now=o.after(3), **seen)
    untold = o.plan(o.build_job(), children_=(o.build_child(),), now=o.after(3), **seen)
    assert untold.status.phase == end
    assert untold.status.attempt_start_time == conditions.format_time(o.NOW)  # when the Job was made
    assert _without_times(untold.status) == _without_times(told.status)
    assert o.reasons(untold) == ["Started", *o.reasons(told)]
    assert untold.delete_children == told.delete_children


def _without_times(status: JobStatus) -> JobStatus:
    untimed = (dataclasses.replace(each, last_transition_time="") for each in status.conditions)
    return dataclasses.replace(status, conditions=tuple(untimed))
