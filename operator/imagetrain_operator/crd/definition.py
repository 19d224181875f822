"""The CustomResourceDefinition of ImageTrainingJob as a dict."""

from typing import Any

from imagetrain_api import job, names, schema, status
from imagetrain_operator.crd import openapi

# Name, path, type, and whether only `kubectl get -o wide` shows it.
_COLUMNS = (
    ("Phase", ".status.phase", "string", False),
    ("Ready", ".status.ready", "string", False),
    ("Epoch", ".status.progress.epochs", "string", False),
    ("Step", ".status.progress.steps", "string", False),
    ("Images/s", ".status.progress.imagesPerSecond", "number", False),
    ("Accuracy", ".status.progress.accuracy", "number", False),
    ("ETA", ".status.progress.eta", "string", False),
    ("Age", ".metadata.creationTimestamp", "date", False),
    ("Reason", ".status.reason", "string", True),
    ("Model URI", ".status.outputs.manifestUri", "string", True),
)


def build_definition() -> dict[str, Any]:
    """Build the CustomResourceDefinition."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.PLURAL}.{names.GROUP}", "labels": {"app.kubernetes.io/name": "imagetrain"}},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.KIND,
                "listKind": f"{names.KIND}List",
                "plural": names.PLURAL,
                "singular": names.KIND.lower(),
                "shortNames": ["itj"],
                "categories": ["all"],
            },
            "versions": [_build_version()],
        },
    }


def _build_version() -> dict[str, Any]:
    return {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [_build_column(*column) for column in _COLUMNS],
        "schema": {"openAPIV3Schema": build_root_schema()},
    }


def _build_column(name: str, path: str, kind: str, is_wide: bool) -> dict[str, Any]:  # noqa: FBT001
    column: dict[str, Any] = {"name": name, "jsonPath": path, "type": kind}
    return column | {"priority": 1} if is_wide else column


def build_root_schema() -> dict[str, Any]:
    """Build the schema of the whole object."""
    (name,) = (field for field in schema.document_fields(job.Metadata) if field.key == "name")
    return {
        "description": "A training of an image classifier by a group of workers.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            # The API server checks all metadata itself; the name alone has rules of our own.
            "metadata": {"type": "object", "properties": {"name": openapi.build_scalar(str, name.setting)}},
            "spec": openapi.build_document_schema(job.JobSpec, has_defaults=True),
            "status": openapi.build_document_schema(status.JobStatus, has_defaults=False),
        },
    }
