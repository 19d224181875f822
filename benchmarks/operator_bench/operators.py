"""The operators that are compared: how each is installed on a bare control plane and started there.

An operator runs as a process in the cluster's client namespace, as the ServiceAccount and under the very RBAC that its
manifests give it, so the audit log tells its requests apart.
"""

import abc
import base64
import json
import pathlib
import subprocess
import sys
import urllib.error
import urllib.request
from typing import IO, Any

import yaml

from imagetrain_cluster import cluster, network, tools, wait

_READY_SECONDS = 60.0
_CHECKOUT = pathlib.Path(__file__).resolve().parents[2]


class Operator(abc.ABC):
    """One operator.

    Attributes:
        name: what it is called here.
        job_kind: the key of its jobs in systems.JOB_KINDS.
        title: head of its column.
        ready_port: where it answers /readyz.
    """

    name: str
    job_kind: str
    title: str
    ready_port: int

    def __init__(self) -> None:
        self.account = ""
        """Namespace and name of its ServiceAccount, with a colon between."""

    @property
    def user(self) -> str:
        """Its user name in the audit log."""
        return f"system:serviceaccount:{self.account}"

    @abc.abstractmethod
    def render(self) -> str:
        """Return the manifests of its installation."""

    @abc.abstractmethod
    def start(self, there: cluster.Cluster, kubeconfig: pathlib.Path, log: IO[str]) -> "subprocess.Popen[str]":
        """Start it."""

    def install(self, there: cluster.Cluster) -> None:
        """Apply everything but its Deployment."""
        # Documents stay text: PyYAML reads 1e-07 as a word, as YAML 1.1 has it, and kubectl writes it so.
        documents = [one for one in self.render().split("\n---\n") if "\nkind: Deployment\n" not in one]
        account = next(yaml.safe_load(one)["metadata"] for one in documents if "\nkind: ServiceAccount\n" in one)
        self.account = f"{account['namespace']}:{account['name']}"
        apply(there, "\n---\n".join(documents))

    def wait_until_ready(self, there: cluster.Cluster, process: "subprocess.Popen[str]") -> None:
        """Wait for its /readyz.

        Raises:
            RuntimeError: it ended.
        """
        port = there.forward("127.0.0.1", self.ready_port)

        def is_ready() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"{self.title} ended with {process.returncode}; see {there.logs}.")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
                    return bool(answer.status == 200)
            except (urllib.error.URLError, OSError):
                return False

        wait.until(is_ready, timeout_seconds=_READY_SECONDS, what=f"/readyz of {self.title}")

    def write_kubeconfig(self, there: cluster.Cluster) -> pathlib.Path:
        """Write a kubeconfig with a token of its ServiceAccount."""
        namespace, _, account = self.account.partition(":")
        token = there.kubectl("-n", namespace, "create", "token", account, "--duration=24h").strip()
        content = json.loads(there.client_kubeconfig.read_text(encoding="utf-8"))
        content["users"][0]["user"] = {"token": token}
        path = there.client_kubeconfig.with_name(f"kubeconfig.{self.name}")
        path.touch(mode=0o600)
        path.write_text(json.dumps(content), encoding="utf-8")
        return path


class ImageTrain(Operator):
    """Ours."""

    name = "imagetrain"
    job_kind = "imagetrain"
    title = "imagetrain"
    ready_port = 8081

    def render(self) -> str:
        """Return the cluster-wide install."""
        return _kustomize(_CHECKOUT / "manifests" / "overlays" / "cluster-wide")

    def start(self, there: cluster.Cluster, kubeconfig: pathlib.Path, log: IO[str]) -> "subprocess.Popen[str]":
        """Start it."""
        program: list[str | pathlib.Path] = [
            pathlib.Path(sys.executable).with_name("imagetrain-operator"),
            "--all-namespaces",
            "--listen-host=127.0.0.1",
            f"--listen-port={self.ready_port}",
            f"--lease-namespace={self.account.partition(':')[0]}",
            "--log-format=json",
        ]
        return there.popen(program, env={"KUBECONFIG": str(kubeconfig)}, stdout=log, stderr=log)


class TrainingOperator(Operator):
    """Kubeflow's training operator, built by peers/training-operator/build.sh."""

    name = "training-operator"
    job_kind = "training-operator"
    ready_port = 8081
    _NAMESPACE = "kubeflow"
    _SECRET = "training-operator-webhook-cert"  # noqa: S105 - its name
    _CERTIFICATES = "/tmp/k8s-webhook-server/serving-certs"  # noqa: S108 - a constant of the peer
    _WEBHOOK_PORT = 9443

    def __init__(self) -> None:
        super().__init__()
        script = pathlib.Path(__file__).with_name("peers") / "training-operator" / "build.sh"
        built = subprocess.run([script], stdout=subprocess.PIPE, text=True, check=True)
        self._folder = pathlib.Path(built.stdout.strip())
        self.title = self._folder.name

    def render(self) -> str:
        """Return the standalone install."""
        return _kustomize(self._folder / "manifests" / "overlays" / "standalone")

    def install(self, there: cluster.Cluster) -> None:
        """Install it, and send its webhook's Service to the client namespace, as a pod's address would be."""
        super().install(there)
        metadata = {
            "name": "training-operator",
            "namespace": self._NAMESPACE,
            "labels": {"kubernetes.io/service-name": "training-operator"},
        }
        slice_: dict[str, Any] = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": metadata,
            "addressType": "IPv4",
            "endpoints": [{"addresses": [network.CLIENT_ADDRESS]}],
            "ports": [{"name": "webhook-server", "port": self._WEBHOOK_PORT}],
        }
        apply(there, json.dumps(slice_))

    def start(self, there: cluster.Cluster, kubeconfig: pathlib.Path, log: IO[str]) -> "subprocess.Popen[str]":
        """Start it, then mount its webhook's Secret as kubelet would; it makes the certificates itself."""
        mounted = kubeconfig.with_name("serving-certs")
        mounted.mkdir()
        script = f'mkdir -p {self._CERTIFICATES} && mount --bind "$0" {self._CERTIFICATES} && exec "$@"'
        program: list[str | pathlib.Path] = [
            self._folder / "training-operator",
            f"--kubeconfig={kubeconfig}",
            "--metrics-bind-address=127.0.0.1:8080",
            f"--health-probe-bind-address=127.0.0.1:{self.ready_port}",
        ]
        process = there.popen(
            ["/bin/sh", "-c", script, mounted, *program],
            env={"MY_POD_NAMESPACE": self._NAMESPACE},
            stdout=log,
            stderr=log,
        )
        for name, content in self._certificates(there).items():
            (mounted / name).write_bytes(base64.b64decode(content))
        return process

    def _certificates(self, there: cluster.Cluster) -> dict[str, str]:
        def read() -> dict[str, str]:
            secret = there.kubectl("-n", self._NAMESPACE, "get", "secret", self._SECRET, "--output=json")
            data: dict[str, str] = json.loads(secret).get("data", {})
            return data

        return wait.until(read, timeout_seconds=_READY_SECONDS, what="the making of the peer's certificates")


def apply(there: cluster.Cluster, manifests: str) -> None:
    """Apply YAML documents."""
    there.kubectl("apply", "--server-side", "--filename=-", stdin=manifests)


def _kustomize(folder: pathlib.Path) -> str:
    command: list[str | pathlib.Path] = [tools.find("kubectl"), "kustomize", folder]
    rendered = subprocess.run(command, capture_output=True, text=True, check=False)
    if rendered.returncode != 0:
        raise RuntimeError(f"kubectl kustomize {folder} failed: {rendered.stderr.strip()}")
    return rendered.stdout


OPERATORS: dict[str, type[Operator]] = {one.name: one for one in (ImageTrain, TrainingOperator)}
