"""Jobs, child Jobs and pods in the shape in which an API server (Kubernetes 1.34) sends them."""

import copy
import json
from typing import Any

JOB_UID = "0b8f2f6e-3f5c-4a0e-9d0b-5a2f0e6c1d11"
RUN_ID = "fashion-0b8f2f6e"


def build_training_job(
    *, name: str = "fashion", status: Any = None, metadata: Any = None, **spec: Any
) -> dict[str, Any]:
    """Return an ImageTrainingJob of two workers."""
    document = {
        "apiVersion": "imagetrain.dev/v1alpha1",
        "kind": "ImageTrainingJob",
        "metadata": {
            "name": name,
            "namespace": "vision",
            "uid": JOB_UID,
            "generation": 1,
            "resourceVersion": "1041",
            "creationTimestamp": "2026-03-01T10:00:00Z",
            "managedFields": [{"manager": "kubectl-client-side-apply", "operation": "Update"}],
            **(metadata or {}),
        },
        "spec": {
            "workers": 2,
            "data": {"uri": "s3://datasets/fashion/v1/"},
            "model": {"architecture": "small_cnn", "inputShape": [28, 28, 1]},
            "training": {"epochs": 5, "globalBatchSize": 256},
            "output": {"uri": "s3://models/fashion/"},
            **spec,
        },
    }
    return document if status is None else {**document, "status": status}


def build_child_job(*, attempt: int = 0, conditions: Any = (), **metadata: Any) -> dict[str, Any]:
    """Return the Kubernetes Job of one attempt."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"fashion-{attempt}",
            "namespace": "vision",
            "uid": f"5d2c3a52-0000-4000-8000-00000000000{attempt}",
            "resourceVersion": "1102",
            "generation": 1,
            "creationTimestamp": "2026-03-01T10:00:01Z",
            "labels": {
                "imagetrain.dev/job": "fashion",
                "imagetrain.dev/run": RUN_ID,
                "imagetrain.dev/attempt": str(attempt),
            },
            "ownerReferences": [
                {
                    "apiVersion": "imagetrain.dev/v1alpha1",
                    "kind": "ImageTrainingJob",
                    "name": "fashion",
                    "uid": JOB_UID,
                    "controller": True,
                }
            ],
            **metadata,
        },
        "spec": {"completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimit": 0},
        "status": {"active": 2, "conditions": list(conditions)} if conditions else {"active": 2, "ready": 0},
    }


def build_pod(
    *, rank: int = 0, attempt: int = 0, node: str = "node-1", metadata: Any = None, **status: Any
) -> dict[str, Any]:
    """Return a worker pod with the given status."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"fashion-{attempt}-{rank}-x7k2p",
            "generateName": f"fashion-{attempt}-{rank}-",
            "namespace": "vision",
            "uid": f"9a1f3f0c-0000-4000-8000-0000000000{attempt}{rank}",
            "resourceVersion": "1203",
            "creationTimestamp": "2026-03-01T10:00:02Z",
            "annotations": {"batch.kubernetes.io/job-completion-index": str(rank)},
            "labels": {
                "app.kubernetes.io/name": "imagetrain",
                "batch.kubernetes.io/controller-uid": "5d2c3a52-0000-4000-8000-000000000000",
                "batch.kubernetes.io/job-completion-index": str(rank),
                "batch.kubernetes.io/job-name": f"fashion-{attempt}",
                "imagetrain.dev/attempt": str(attempt),
                "imagetrain.dev/job": "fashion",
                "imagetrain.dev/run": RUN_ID,
            },
            **(metadata or {}),
        },
        "spec": {"nodeName": node, "containers": [{"name": "worker"}]}
        if node
        else {"containers": [{"name": "worker"}]},
        "status": {"phase": "Pending", **status},
    }


def build_container_status(state: dict[str, Any], *, name: str = "worker", is_ready: bool = False) -> dict[str, Any]:
    """Return one entry of status.containerStatuses."""
    return {
        "name": name,
        "image": "registry.example.com/imagetrain/trainer:0.2.0",
        "imageID": "",
        "ready": is_ready,
        "restartCount": 0,
        "started": is_ready,
        "state": copy.deepcopy(state),
        "lastState": {},
    }


def build_conditions(**statuses: str) -> list[dict[str, Any]]:
    """Return status.conditions of a pod, such as `Ready="False"`."""
    return [
        {"type": kind, "status": value, "lastProbeTime": None, "lastTransitionTime": "2026-03-01T10:00:03Z"}
        for kind, value in statuses.items()
    ]


def build_running_pod(
    *, rank: int = 0, is_ready: bool = True, status_conditions: Any = (), **settings: Any
) -> dict[str, Any]:
    """Return a worker pod whose container runs; `status_conditions` stand in for those of the same type."""
    word = str(is_ready)
    usual = build_conditions(
        PodReadyToStartContainers="True", Initialized="True", Ready=word, ContainersReady=word, PodScheduled="True"
    )
    others = {condition["type"] for condition in status_conditions}
    return build_pod(
        rank=rank,
        phase="Running",
        podIP=f"10.244.1.{7 + rank}",
        conditions=[*(condition for condition in usual if condition["type"] not in others), *status_conditions],
        containerStatuses=[
            build_container_status({"running": {"startedAt": "2026-03-01T10:00:04Z"}}, is_ready=is_ready)
        ],
        **settings,
    )


def build_ended_pod(
    exit_code: int,
    *,
    rank: int = 0,
    reason: str = "",
    outcome: Any = None,
    message: str = "",
    status_reason: str = "",
    status_message: str = "",
    finished_at: str = "2026-03-01T10:05:00Z",
    **settings: Any,
) -> dict[str, Any]:
    """Return a worker pod whose container ended with `reason` and `message`, or with an outcome document."""
    terminated = {
        "exitCode": exit_code,
        "reason": reason or ("Error" if exit_code else "Completed"),
        "startedAt": "2026-03-01T10:00:04Z",
        "finishedAt": finished_at,
        "containerID": "containerd://0f3c",
        "message": json.dumps(outcome) if outcome is not None else message,
    }
    status: dict[str, Any] = {
        "phase": "Failed" if exit_code else "Succeeded",
        "conditions": build_conditions(Initialized="True", Ready="False", ContainersReady="False", PodScheduled="True"),
        "containerStatuses": [build_container_status({"terminated": terminated})],
    }
    if status_reason:
        status |= {"reason": status_reason, "message": status_message}
    return build_pod(rank=rank, **{**status, **settings})
