"""What is compared: the jobs of each operator."""

import dataclasses
from collections.abc import Callable
from typing import Any

from imagetrain_api import job, names

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
    """Return a TFJob of the training operator."""
    container = {"name": "tensorflow", "image": _IMAGE, "command": ["train"], "resources": _RESOURCES}
    workers = {"replicas": WORKERS, "restartPolicy": "Never", "template": {"spec": {"containers": [container]}}}
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "TFJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"successPolicy": "AllWorkers", "tfReplicaSpecs": {"Worker": workers}},
    }


JOB_KINDS = {
    "imagetrain": JobKind(api_version=names.API_VERSION, plural=names.PLURAL, manifest=build_image_training_job),
    "training-operator": JobKind(api_version="kubeflow.org/v1", plural="tfjobs", manifest=build_tf_job),
}
