"""Kubeconfig files: how to reach the API server, and as whom."""

import json
import pathlib
from typing import Any

from imagetrain_cluster import certificates


def build(folder: certificates.Folder, *, user: str, server: str) -> dict[str, Any]:
    """Return a kubeconfig of a user whose certificate is in `folder`."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "imagetrain",
                "cluster": {
                    "server": server,
                    "certificate-authority-data": folder.base64(folder.certificate("ca")),
                },
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": folder.base64(folder.certificate(user)),
                    "client-key-data": folder.base64(folder.key(user)),
                },
            }
        ],
        "contexts": [{"name": "imagetrain", "context": {"cluster": "imagetrain", "user": user}}],
        "current-context": "imagetrain",
    }


def write(path: pathlib.Path, content: dict[str, Any]) -> pathlib.Path:
    """Write a kubeconfig that only its owner can read (JSON is YAML)."""
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
    return path
