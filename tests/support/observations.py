"""Observations for the tests of the operator's decisions: a small group at a fixed time, changed by name."""

import copy
import dataclasses
import datetime as dt
import json
from typing import Any

from imagetrain_api import job, progress, schema
from imagetrain_api.status import JobStatus
from imagetrain_operator import observed
from imagetrain_operator.plan import children, decide
from imagetrain_operator.plan.draft import Plan

NOW = dt.datetime(2026, 3, 1, 12, 0, 0, tzinfo=dt.UTC)
KEY = observed.Key("vision", "digits")
UID = "6b1f0a44-0000-4000-8000-000000000001"
MANIFEST: dict[str, Any] = {
    "apiVersion": "imagetrain.dev/v1alpha1",
    "kind": "ImageTrainingJob",
    "metadata": {"name": "digits", "namespace": "vision"},
    "spec": {
        "workers": 2,
        "data": {"uri": "s3://demo/datasets/digits/"},
        "model": {"architecture": "small_cnn", "inputShape": [8, 8, 1]},
        "output": {"uri": "s3://demo/models/digits/"},
    },
}


def after(seconds: float) -> dt.datetime:
    """Return the time so many seconds after NOW."""
    return NOW + dt.timedelta(seconds=seconds)


def build_job(status: JobStatus | None = None, generation: int = 1, **spec: Any) -> observed.TrainingJob:
    """Return a valid job with these settings of its spec."""
    manifest = copy.deepcopy(MANIFEST)
    manifest["spec"].update(spec)
    return observed.TrainingJob(
        key=KEY,
        uid=UID,
        generation=generation,
        resource_version="1",
        is_deleting=False,
        job=job.decode_job(manifest),
        errors=(),
        status=status or JobStatus(),
    )


def build_child(attempt: int = 0, **changes: Any) -> observed.ChildJob:
    """Return the Job of an attempt, active unless something else is said."""
    child = observed.ChildJob(
        namespace="vision",
        name=f"digits-{attempt}",
        uid=f"job-{attempt}",
        resource_version="1",
        owner_uid=UID,
        job_name="digits",
        attempt=attempt,
        created_at=NOW,
        is_deleting=False,
        is_failed=False,
        is_complete=False,
        message="",
    )
    return dataclasses.replace(child, **changes)


def build_pod(rank: int, attempt: int = 0, **changes: Any) -> observed.Pod:
    """Return a running, ready pod unless something else is said."""
    pod = observed.Pod(
        namespace="vision",
        name=f"digits-{attempt}-{rank}-x",
        uid=f"pod-{attempt}-{rank}",
        resource_version="1",
        job_name="digits",
        run_id="digits-6b1f0a44",
        attempt=attempt,
        rank=rank,
        created_at=NOW,
        phase="Running",
        node=f"n{rank + 1}",
        ip=f"10.0.0.{rank + 1}",
        is_ready=True,
        is_node_lost=False,
        deletion_deadline=None,
        deleted_at=None,
        unschedulable="",
        waiting_reason="",
        waiting_message="",
        restarts=0,
        exit_container="",
        exit_code=None,
        exit_reason="",
        exit_message="",
        finished_at=None,
        pod_reason="",
        pod_message="",
        disruption="",
    )
    return dataclasses.replace(pod, **changes)


def pending(rank: int, attempt: int = 0, **changes: Any) -> observed.Pod:
    """Return a pod that is not ready."""
    return build_pod(rank, attempt, **{"phase": "Pending", "is_ready": False, "ip": "", **changes})


def failed(rank: int, code: int, attempt: int = 0, **changes: Any) -> observed.Pod:
    """Return a pod whose worker ended with an exit code."""
    ended = {
        "phase": "Failed",
        "is_ready": False,
        "exit_container": "worker",
        "exit_code": code,
        "exit_reason": "Error",
        "finished_at": NOW,
    }
    return build_pod(rank, attempt, **{**ended, **changes})


def succeeded(rank: int, attempt: int = 0, outcome: dict[str, Any] | None = None) -> observed.Pod:
    """Return a pod whose worker has done its work."""
    message = json.dumps({"exitCode": 0, "reason": "Completed", **outcome}) if outcome else ""
    return build_pod(
        rank,
        attempt,
        phase="Succeeded",
        is_ready=False,
        exit_container="worker",
        exit_code=0,
        exit_reason="Completed",
        exit_message=message,
        finished_at=NOW,
    )


def report(phase: str = "training", **figures: Any) -> progress.Progress:
    """Return what a chief tells."""
    document = {"phase": phase, "totalEpochs": 5, "totalSteps": 100, **figures}
    return schema.decode(progress.Progress, document)


def plan(
    job_: observed.TrainingJob,
    *,
    children_: tuple[observed.ChildJob, ...] = (),
    pods: tuple[observed.Pod, ...] = (),
    progress_: progress.Progress | None = None,
    denial: observed.Denial | None = None,
    mount_problem: str = "",
    silence: str = "",
    now: dt.datetime = NOW,
) -> Plan:
    """Decide."""
    seen = observed.Observation(
        job=job_,
        child_jobs=children_,
        pods=pods,
        progress=progress_,
        denial=denial,
        mount_problem=mount_problem,
        silence=silence,
    )
    return decide.decide(seen, now)


def begun(now: dt.datetime = NOW, **spec: Any) -> observed.TrainingJob:
    """Return a job whose first attempt was just asked for."""
    fresh = build_job(**spec)
    return dataclasses.replace(fresh, status=plan(fresh, now=now).status)


def carried(job_: observed.TrainingJob, made: Plan) -> observed.TrainingJob:
    """Return the job with the status that a plan gave it."""
    return dataclasses.replace(job_, status=made.status)


def run_id() -> str:
    """Return the run's identity."""
    return children.run_id(build_job())


RUNNING = (build_pod(0), build_pod(1))


def training(**spec: Any) -> observed.TrainingJob:
    """Return a job whose first attempt is at step 3."""
    job_ = begun(**spec)
    return carried(job_, plan(job_, children_=(build_child(),), pods=RUNNING, progress_=report(step=3)))


def conditions_of(made: Plan) -> dict[str, tuple[str, str]]:
    """Return answer and reason of each condition."""
    return {each.type: (each.status, each.reason) for each in made.status.conditions}


def reasons(made: Plan) -> list[str]:
    """Return the reasons of the planned events."""
    return [event.reason for event in made.events]
