"""The pod template of an attempt's workers: what Kubernetes starts for every rank."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from imagetrain_api import job as api_job
from imagetrain_api import names, plan, pod_settings, rules, schema
from imagetrain_operator.plan import strategic_merge

USER_ID = 65532  # "nonroot" of the distroless images; Pod Security `restricted` forbids 0
TEMPORARY_DIR = "/tmp"  # noqa: S108 - a volume of the pod's own
SHARED_MEMORY_DIR = "/dev/shm"  # noqa: S108 - likewise

_PATH = "spec.worker"
_CONFIG_VOLUME = "imagetrain-config"

# A worker cannot do its part with another value of these. The rest of the environment is the user's to override.
_RESERVED_VARIABLES = frozenset({names.ENV_CONFIG, names.ENV_RANK, names.ENV_WORK_DIR, names.ENV_TERMINATION_MESSAGE})

# Kubernetes, "Taint based evictions": the two taints of a node that went away.
_LOST_NODE_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What the operator adds where a job says nothing.

    Attributes:
        image: container image of the workers.
        image_pull_policy: when it is pulled; None: as Kubernetes decides by the tag.
        unreachable_toleration_seconds: how long a pod stays on a node that went away; Kubernetes' own 300 s are long
            for a group that stands still meanwhile.
        log_format: text or json.
    """

    image: str
    image_pull_policy: str | None = None
    unreachable_toleration_seconds: int = 30
    log_format: str = "json"


def build_labels(name: str, run_id: str, attempt: int) -> dict[str, str]:
    """Return the labels of an attempt's objects, by which the operator finds them again."""
    return {
        "app.kubernetes.io/name": "imagetrain",
        "app.kubernetes.io/managed-by": "imagetrain-operator",
        names.LABEL_JOB: name,
        names.LABEL_RUN: run_id,
        names.LABEL_ATTEMPT: str(attempt),
    }


def build_pod_template(
    job: api_job.ImageTrainingJob, *, attempt: int, run_id: str, defaults: Defaults
) -> dict[str, Any]:
    """Return the template of an attempt's pods, with `spec.worker.podTemplate` applied.

    Raises:
        ValueError: a setting that Kubernetes defines does not fit the rest; the error names the field.
    """
    group = _plan(job, attempt, run_id, defaults)
    template = _build(job.spec, group, build_labels(job.metadata.name, run_id, attempt), defaults)
    path = f"{_PATH}.podTemplate"
    merged = strategic_merge.merge(template, job.spec.worker.pod_template, path=path)
    return _reassert(merged, template, path)


def _plan(job: api_job.ImageTrainingJob, attempt: int, run_id: str, defaults: Defaults) -> plan.WorkerGroupPlan:
    return plan.plan_worker_group(
        _for_workers(job),
        run_id=run_id,
        endpoints=plan.kubernetes_endpoints(job, attempt),
        config_path=f"{names.CONFIG_DIR}/{names.CONFIG_FILE}",
        environment={
            names.ENV_WORK_DIR: names.WORK_DIR,
            names.ENV_TERMINATION_MESSAGE: names.TERMINATION_MESSAGE_PATH,
            names.ENV_LOG_FORMAT: defaults.log_format,
            "HOME": names.WORK_DIR,
            "TMPDIR": TEMPORARY_DIR,
        },
    )


def _for_workers(job: api_job.ImageTrainingJob) -> api_job.ImageTrainingJob:
    """Return the job without what only Kubernetes reads.

    The config document is an annotation, which may hold 256 KiB with all others; users' annotations alone may fill it,
    and env may hold what is nobody's business in a second place.
    """
    worker = job.spec.worker
    spec = dataclasses.replace(
        job.spec,
        worker=pod_settings.WorkerSettings(resources=worker.resources, allow_cpu=worker.allow_cpu),
    )
    metadata = api_job.Metadata(name=job.metadata.name, namespace=job.metadata.namespace)
    return dataclasses.replace(job, metadata=metadata, spec=spec)


def _build(
    spec: api_job.JobSpec, group: plan.WorkerGroupPlan, labels: Mapping[str, str], defaults: Defaults
) -> dict[str, Any]:
    worker = spec.worker
    volumes, mounts = _build_volumes(worker)
    config = json.dumps(schema.encode(group.config), separators=(",", ":"), sort_keys=True)
    pod = {
        "restartPolicy": "Never",
        "subdomain": group.name,  # with the host name that an Indexed Job sets: <job>-<rank>.<service>
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": worker.termination_grace_period_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_build_container(spec, group, mounts, defaults)],
        "volumes": volumes,
        "tolerations": _build_tolerations(worker.tolerations, defaults.unreachable_toleration_seconds),
    }
    given = {
        "serviceAccountName": worker.service_account_name,
        "priorityClassName": worker.priority_class_name,
        "nodeSelector": dict(worker.node_selector),
        "affinity": dict(worker.affinity),
        "topologySpreadConstraints": list(worker.topology_spread_constraints),
        "imagePullSecrets": [schema.encode(secret) for secret in worker.image_pull_secrets],
    }
    return {
        "metadata": {
            "labels": {**labels, "app.kubernetes.io/component": "worker"},
            "annotations": {
                names.ANNOTATION_WORKER_CONFIG: config,
                # No standard, but what most Prometheus set-ups look for.
                "prometheus.io/scrape": "true",
                "prometheus.io/port": str(names.STATUS_PORT),
                "prometheus.io/path": names.PATH_METRICS,
            },
        },
        "spec": {**pod, **{key: value for key, value in given.items() if value}},
    }


def _build_container(
    spec: api_job.JobSpec, group: plan.WorkerGroupPlan, mounts: list[dict[str, Any]], defaults: Defaults
) -> dict[str, Any]:
    worker = spec.worker
    policy = worker.image_pull_policy or defaults.image_pull_policy
    resources = {key: value for key, value in schema.encode(worker.resources).items() if value}
    return {
        "name": names.CONTAINER,
        "image": worker.image or defaults.image,
        **({"imagePullPolicy": policy} if policy else {}),
        "command": list(group.command),
        "env": _build_env(spec, group),
        "ports": [
            {"name": "collective", "containerPort": names.COLLECTIVE_PORT, "protocol": "TCP"},
            {"name": "rendezvous", "containerPort": names.RENDEZVOUS_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": names.STATUS_PORT, "protocol": "TCP"},
        ],
        **({"resources": resources} if resources else {}),
        "volumeMounts": mounts,
        "terminationMessagePath": names.TERMINATION_MESSAGE_PATH,
        "terminationMessagePolicy": "FallbackToLogsOnError",  # a worker that was killed wrote no outcome
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _build_env(spec: api_job.JobSpec, group: plan.WorkerGroupPlan) -> list[dict[str, Any]]:
    """Return the environment: ours, in which the user's stand in for those of the same name, then further ones.

    No name comes twice: server-side apply refuses such a list.
    """
    ours: dict[str, dict[str, Any]] = {
        name: {"name": name, "value": value} for name, value in group.environment.items()
    }
    ours[names.ENV_RANK] = {
        "name": names.ENV_RANK,
        "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{names.LABEL_RANK}']"}},
    }
    # The container's limit, rounded up; without one, the node's processors (Kubernetes, "Downward API").
    ours[names.ENV_CPU_THREADS] = {
        "name": names.ENV_CPU_THREADS,
        "valueFrom": {"resourceFieldRef": {"containerName": names.CONTAINER, "resource": "limits.cpu"}},
    }
    if secret := spec.s3.credentials_secret:
        ours |= {each["name"]: each for each in _build_credentials(secret)}
    given = {}
    for index, variable in enumerate(spec.worker.env):
        name, path = variable.get("name"), f"{_PATH}.env[{index}].name"
        if not isinstance(name, str) or not name:
            raise _error(path, "be the name of a variable", name)
        if name in _RESERVED_VARIABLES:
            raise _error(path, "be no variable that a worker is told its place by", name)
        given[name] = dict(variable)
    return list({**ours, **given}.values())


def _build_credentials(secret: str) -> list[dict[str, Any]]:
    def reference(key: str, **options: bool) -> dict[str, Any]:
        return {"name": key, "valueFrom": {"secretKeyRef": {"name": secret, "key": key, **options}}}

    return [
        reference("AWS_ACCESS_KEY_ID"),
        reference("AWS_SECRET_ACCESS_KEY"),
        reference("AWS_SESSION_TOKEN", optional=True),
    ]


def _build_volumes(worker: pod_settings.WorkerSettings) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return volumes and mounts: ours, but for the places where the user mounts something better, then the user's."""
    config = {
        "name": _CONFIG_VOLUME,
        "downwardAPI": {
            "items": [
                {
                    "path": names.CONFIG_FILE,
                    "fieldRef": {"fieldPath": f"metadata.annotations['{names.ANNOTATION_WORKER_CONFIG}']"},
                }
            ]
        },
    }
    volumes, mounts = [config], [{"name": _CONFIG_VOLUME, "mountPath": names.CONFIG_DIR, "readOnly": True}]
    taken = _mount_paths(worker.volume_mounts)
    for place, name, source in _scratch(worker.gpus):
        if place not in taken:
            volumes.append({"name": name, "emptyDir": source})
            mounts.append({"name": name, "mountPath": place})
    return [*volumes, *map(dict, worker.volumes)], [*mounts, *map(dict, worker.volume_mounts)]


def _scratch(gpus: int) -> list[tuple[str, str, dict[str, str]]]:
    places: list[tuple[str, str, dict[str, str]]] = [
        (names.WORK_DIR, "imagetrain-scratch", {}),
        (TEMPORARY_DIR, "imagetrain-tmp", {}),  # for libraries that heed no TMPDIR: the image is read-only
    ]
    if gpus > 1:
        # NCCL passes data between the GPUs of a node through shared memory and fails where it is short; a container
        # runtime gives 64 MiB (NVIDIA NCCL user guide, "Troubleshooting": shared memory).
        places.append((SHARED_MEMORY_DIR, "imagetrain-shm", {"medium": "Memory"}))
    return places


def _mount_paths(mounts: Sequence[Mapping[str, Any]]) -> set[str]:
    paths = set()
    for index, mount in enumerate(mounts):
        place, path = mount.get("mountPath"), f"{_PATH}.volumeMounts[{index}].mountPath"
        if not isinstance(place, str) or not place:
            raise _error(path, "be a path in the container", place)
        if place.rstrip("/") == names.CONFIG_DIR:
            raise _error(path, "be another place: the worker's configuration lies there", place)
        paths.add(place.rstrip("/"))
    return paths


def _build_tolerations(given: Sequence[Mapping[str, Any]], seconds: int) -> list[dict[str, Any]]:
    ours = [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}
        for key in _LOST_NODE_TAINTS
        if not any(_tolerates_loss(each, key) for each in given)
    ]
    return [*map(dict, given), *ours]


def _tolerates_loss(toleration: Mapping[str, Any], taint: str) -> bool:
    # An absent key means every key, and an absent effect every effect (Kubernetes API reference, "Toleration").
    return toleration.get("key") in (None, "", taint) and toleration.get("effect") in (None, "", "NoExecute")


def _reassert(merged: dict[str, Any], template: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Put back what the operator finds its pods by, and what an Indexed Job demands."""
    spec = merged.get("spec")
    containers = spec.get("containers") if spec else None
    if not any(each.get("name") == names.CONTAINER for each in containers or ()):
        raise _error(f"{path}.spec.containers", f"keep the container {names.CONTAINER!r}", containers)
    metadata, ours = merged.get("metadata") or {}, template["metadata"]
    needed = (names.LABEL_JOB, names.LABEL_RUN, names.LABEL_ATTEMPT)
    return {
        **merged,
        "metadata": {
            **metadata,
            "labels": {**(metadata.get("labels") or {}), **{key: ours["labels"][key] for key in needed}},
            "annotations": {
                **(metadata.get("annotations") or {}),
                names.ANNOTATION_WORKER_CONFIG: ours["annotations"][names.ANNOTATION_WORKER_CONFIG],
            },
        },
        "spec": {**(spec or {}), "restartPolicy": "Never"},
    }


def _error(path: str, rule: str, value: object) -> ValueError:
    return ValueError(str(rules.FieldError(path, rule, value)))
