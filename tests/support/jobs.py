"""Small valid jobs for tests of the command."""

import pathlib
from typing import Any

import yaml

from imagetrain_api import job


def build_document(folder: pathlib.Path, **spec: Any) -> dict[str, Any]:
    """Return a manifest whose data set and output lie in `folder`."""
    return {
        "apiVersion": "imagetrain.dev/v1alpha1",
        "kind": "ImageTrainingJob",
        "metadata": {"name": "tiny"},
        "spec": {
            "workers": 2,
            "data": {"uri": f"file://{folder}/data/"},
            "model": {"architecture": "small_cnn", "inputShape": [8, 8, 1]},
            "training": {"epochs": 2, "globalBatchSize": 16},
            "output": {"uri": f"file://{folder}/out/"},
            **spec,
        },
    }


def build_job(folder: pathlib.Path, **spec: Any) -> job.ImageTrainingJob:
    """Return the same as a job."""
    return job.decode_job(build_document(folder, **spec))


def write_manifest(folder: pathlib.Path, **spec: Any) -> pathlib.Path:
    """Write the same to `folder`/job.yaml."""
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(build_document(folder, **spec), sort_keys=False))
    return path
