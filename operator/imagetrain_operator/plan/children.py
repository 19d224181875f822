"""The objects that the operator makes for a training job: one Service, and one Kubernetes Job an attempt."""

import signal
from typing import Any

from imagetrain_api import exit_codes, names
from imagetrain_api import job as api_job
from imagetrain_operator import observed
from imagetrain_operator.plan import group, pod_template

Defaults = pod_template.Defaults

_PERMANENT_CODES = tuple(
    sorted(int(code) for code, outcome in exit_codes.OUTCOMES.items() if code and not outcome.is_retryable)
)
# Of a worker that was asked to stop, or that missed the others.
_BLAMELESS_CODES = (int(exit_codes.ExitCode.PEER_LOST), int(exit_codes.ExitCode.PREEMPTED), 128 + signal.SIGTERM)

_MAX_RUN_ID = 63  # imagetrain_api.worker_config.WorkerConfig.run_id


def run_id(job: observed.TrainingJob) -> str:
    """Return the identity of a job's run: the same over all its attempts, another once the job is made anew."""
    tail = f"-{job.uid[:8]}"
    return job.key.name[: _MAX_RUN_ID - len(tail)].rstrip("-") + tail


def build_service(job: observed.TrainingJob) -> dict[str, Any]:
    """Return the headless Service that gives each worker a host name.

    Workers look for each other while they start, so addresses are published before they are ready.
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": job.key.name,
            "namespace": job.key.namespace,
            "labels": {
                "app.kubernetes.io/name": "imagetrain",
                "app.kubernetes.io/managed-by": "imagetrain-operator",
                names.LABEL_JOB: job.key.name,
            },
            "ownerReferences": [_build_owner_reference(job)],
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {names.LABEL_JOB: job.key.name, names.LABEL_RUN: run_id(job)},
            "ports": [
                {"name": "collective", "port": names.COLLECTIVE_PORT, "protocol": "TCP"},
                {"name": "rendezvous", "port": names.RENDEZVOUS_PORT, "protocol": "TCP"},
                {"name": "status", "port": names.STATUS_PORT, "protocol": "TCP"},
            ],
        },
    }


def build_child_job(job: observed.TrainingJob, attempt: int, defaults: Defaults) -> dict[str, Any]:
    """Return the Indexed Job of an attempt of a valid job.

    It never replaces a pod: the operator starts the next attempt, for a group restarts as one. That of an elastic group
    (`spec.recovery.minWorkers`) replaces those that the cluster took away or that failed by themselves, rank by rank.

    Raises:
        ValueError: `spec.worker` holds what does not fit; the error names the field.
    """
    assert job.job is not None
    workers = job.job.spec.workers
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": names.child_job(job.key.name, attempt),
            "namespace": job.key.namespace,
            "labels": pod_template.build_labels(job.key.name, run_id(job), attempt),
            "ownerReferences": [_build_owner_reference(job)],
        },
        "spec": {
            "completionMode": "Indexed",
            "completions": workers,
            "parallelism": workers,
            "podReplacementPolicy": "Failed",
            **_build_failure_rules(job.job.spec),
            "template": pod_template.build_pod_template(
                job.job, attempt=attempt, run_id=run_id(job), defaults=defaults
            ),
        },
    }


def _build_failure_rules(spec: api_job.JobSpec) -> dict[str, Any]:
    """Return what the Job controller does about a pod that fails (Kubernetes, "Pod failure policy"; KEP-3850, 3998)."""
    if not group.is_elastic(spec):
        return {"backoffLimit": 0}
    return {
        "backoffLimitPerIndex": spec.recovery.max_restarts,
        "podFailurePolicy": {
            "rules": [
                {"action": "FailJob", "onExitCodes": _exit_codes_in(_PERMANENT_CODES)},
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {"action": "Ignore", "onExitCodes": _exit_codes_in(_BLAMELESS_CODES)},
            ]
        },
        "successPolicy": {"rules": [{"succeededIndexes": "0"}]},  # a worker that is away when the chief is done
    }


def _exit_codes_in(codes: tuple[int, ...]) -> dict[str, Any]:
    return {"containerName": names.CONTAINER, "operator": "In", "values": list(codes)}


def _build_owner_reference(job: observed.TrainingJob) -> dict[str, Any]:
    # Without blockOwnerDeletion: some clusters demand rights on the owner's finalizers for it.
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": job.key.name,
        "uid": job.uid,
        "controller": True,
    }
