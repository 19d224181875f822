"""What anybody who holds a kubeconfig can do, in this cluster or another: run kubectl."""

import json
import pathlib
import subprocess
import time
from typing import Any

from imagetrain_cluster import errors, tools

TIMEOUT_SECONDS = 100.0


class Access:
    """kubectl with one kubeconfig."""

    def __init__(self, kubeconfig: pathlib.Path) -> None:
        self.kubeconfig = kubeconfig
        """It works anywhere on this machine."""

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl and return its stdout.

        Raises:
            ClusterError: it failed, and `check`.
        """
        result = subprocess.run(
            [tools.find("kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments],
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        if check and result.returncode != 0:
            raise errors.ClusterError(f"kubectl {' '.join(arguments)} failed: {result.stderr.strip()}")
        return result.stdout

    def apply(self, *objects: dict[str, Any]) -> None:
        """Create or change objects, by server-side apply."""
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.kubectl("apply", "--server-side", "--filename=-", stdin=document)

    def get(self, kind: str, name: str, *, namespace: str = "") -> dict[str, Any] | None:
        """Return an object, or nothing when there is none."""
        inside = [f"--namespace={namespace}"] if namespace else []
        text = self.kubectl("get", kind, name, "--output=json", "--ignore-not-found", *inside)
        return dict(json.loads(text)) if text else None

    def list(self, kind: str, *, namespace: str = "", selector: str = "") -> list[dict[str, Any]]:
        """Return the objects of a kind in a namespace, or in all of them."""
        where = f"--namespace={namespace}" if namespace else "--all-namespaces"
        text = self.kubectl("get", kind, "--output=json", f"--selector={selector}", where)
        return list(json.loads(text)["items"])

    def wait_for_definition(self, name: str, *, timeout_seconds: float = 30) -> None:
        """Wait until the API server serves a CustomResourceDefinition; `kubectl wait` fails where it has no status yet.

        Raises:
            ClusterError: it did not in time.
        """
        deadline = time.monotonic() + timeout_seconds
        while not _is_established(self.get("crd", name)):
            if time.monotonic() > deadline:
                raise errors.ClusterError(f"{name} is not served after {timeout_seconds:g} s.")
            time.sleep(0.1)

    def wait_for_deployment(self, namespace: str, name: str, *, timeout_seconds: int) -> None:
        """Wait until a deployment's pods are all ready."""
        timeout = f"--timeout={timeout_seconds}s"
        self.kubectl("rollout", "status", f"deployment/{name}", f"--namespace={namespace}", timeout)


def _is_established(definition: dict[str, Any] | None) -> bool:
    conditions = (definition or {}).get("status", {}).get("conditions") or ()
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)
