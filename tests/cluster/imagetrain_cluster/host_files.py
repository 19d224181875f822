"""Pods that run the machine's own programs: its /usr, this checkout, its virtual environment and the Python under that.

The Pod Security level `restricted` forbids hostPath volumes, but not claims: so a namespace gets a PersistentVolume of
the machine's root folder, read-only, and the claim `host-files` on it. `subPath` mounts show a pod just the folders it
needs, whatever the permissions of the folders above them.
"""

import pathlib
import sys
from typing import Any

from imagetrain_cluster import images, tools

CLAIM = "host-files"
VOLUME = "host-files"
IMAGE = images.TEST_HOST
NAMESPACE_LABEL = "imagetrain.dev/test-namespace"
"""On a volume: the namespace that it was made for, which it does not go away with."""

SCRIPTS = pathlib.Path(sys.prefix) / "bin"
"""Where `imagetrain-worker` and `python` are, in such a pod as on the machine."""

_OPTIONAL_ETC = ("/etc/alternatives", "/etc/ld.so.cache", "/etc/ssl")


def build_volume(namespace: str) -> dict[str, Any]:
    """Return the PersistentVolume for a namespace."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{VOLUME}-{namespace}", "labels": {NAMESPACE_LABEL: namespace}},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": namespace, "name": CLAIM},
            "hostPath": {"path": "/", "type": "Directory"},
        },
    }


def build_claim(namespace: str) -> dict[str, Any]:
    """Return the claim in a namespace."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "",
            "volumeName": f"{VOLUME}-{namespace}",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def build_volumes() -> list[dict[str, Any]]:
    """Return `spec.volumes` of a pod that runs the machine's programs."""
    return [{"name": VOLUME, "persistentVolumeClaim": {"claimName": CLAIM, "readOnly": True}}]


def build_mounts() -> list[dict[str, Any]]:
    """Return `volumeMounts` of its container: each folder stands where it stands on the machine."""
    return [{"name": VOLUME, "mountPath": str(path), "subPath": str(path)[1:], "readOnly": True} for path in _paths()]


def _paths() -> list[pathlib.Path]:
    """Return the folders and files to show, none inside another."""
    wanted = {pathlib.Path("/usr"), tools.CHECKOUT, pathlib.Path(sys.prefix), pathlib.Path(sys.base_prefix)}
    wanted |= {path for name in _OPTIONAL_ETC if (path := pathlib.Path(name)).exists()}
    return sorted(path for path in wanted if not wanted & set(path.parents))
