"""What is compared: the jobs of each operator."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from imagetrain_api import job, names
from imagetrain_operator.plan import pod_template

WORKERS = 2
_IMAGE = "registry.example.com/trainer:1"  # nothing pulls it
_RESOURCES = {"limits": {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "1"}}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobKind:
    """The custom resource of one operator."""

    api_version: str
    plural: str
    manifest: Callable[[str, str], dict[str, Any]]
    """Name and namespace to a job of two workers."""


def build_image_training_job(name: str, namespace: str) -> dict[str, Any]:
    """Return a job of ours."""
    manifest = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "workers": WORKERS,
            "data": {"uri": "s3://bucket/datasets/digits/"},
            "model": {"architecture": "small_cnn", "inputShape": [8, 8, 1]},
            "training": {"epochs": 20, "globalBatchSize": 64, "seed": 1},
            "output": {"uri": "s3://bucket/models/digits/"},
            "worker": {"image": _IMAGE, "resources": _RESOURCES},
        },
    }
    job.decode_job(manifest)  # refuses a manifest that has fallen behind the contract
    return manifest


def build_tf_job(name: str, namespace: str) -> dict[str, Any]:
    """Return a TFJob whose pods are as rich as ours: the operators are compared, not the pods."""
    return _tf_job(name, namespace, _as_rich_as_ours())


def build_bare_tf_job(name: str, namespace: str) -> dict[str, Any]:
    """Return a TFJob with no more than it needs; no namespace that enforces Pod Security would take its pods."""
    container = {"name": "tensorflow", "image": _IMAGE, "command": ["train"], "resources": _RESOURCES}
    return _tf_job(name, namespace, {"containers": [container]})


def _tf_job(name: str, namespace: str, pod: dict[str, Any]) -> dict[str, Any]:
    workers = {"replicas": WORKERS, "restartPolicy": "Never", "template": {"spec": pod}}
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "TFJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"successPolicy": "AllWorkers", "tfReplicaSpecs": {"Worker": workers}},
    }


@functools.cache
def _as_rich_as_ours() -> dict[str, Any]:
    """Return our pods' spec without what only our operator gives a meaning: rank, config document, host names."""
    ours = job.decode_job(build_image_training_job("any", "any"))
    template = pod_template.build_pod_template(
        ours, attempt=0, run_id="any", defaults=pod_template.Defaults(image=_IMAGE)
    )
    pod = {key: value for key, value in template["spec"].items() if key not in ("restartPolicy", "subdomain")}
    config = next(volume["name"] for volume in pod["volumes"] if "downwardAPI" in volume)
    container = {**pod["containers"][0], "name": "tensorflow"}
    del container["ports"]  # the training operator adds its own
    container["env"] = [variable for variable in container["env"] if "value" in variable]
    container["volumeMounts"] = [mount for mount in container["volumeMounts"] if mount["name"] != config]
    volumes = [volume for volume in pod["volumes"] if volume["name"] != config]
    return {**pod, "containers": [container], "volumes": volumes}


JOB_KINDS = {
    "imagetrain": JobKind(api_version=names.API_VERSION, plural=names.PLURAL, manifest=build_image_training_job),
    "training-operator": JobKind(api_version="kubeflow.org/v1", plural="tfjobs", manifest=build_tf_job),
    "training-operator-bare": JobKind(api_version="kubeflow.org/v1", plural="tfjobs", manifest=build_bare_tf_job),
}
