"""The operator under test: the real command in the cluster's client namespace, under the rights that users install."""

import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from typing import Any

import prometheus_client.parser
import yaml

from imagetrain_cluster import cluster as cluster_module
from imagetrain_cluster import errors, host_files, tools

MANIFESTS = tools.CHECKOUT / "manifests"
SYSTEM_NAMESPACE = "imagetrain-system"
COMMAND = pathlib.Path(sys.prefix) / "bin" / "imagetrain-operator"


def build_overlay(cluster: cluster_module.Cluster, name: str, *, namespace: str = "") -> list[dict[str, Any]]:
    """Return the objects of an overlay, as kustomize builds them, but for the definition of the kind.

    With `namespace` they are those of a copy in which the user has put that name.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(MANIFESTS, pathlib.Path(folder) / "manifests")
        if namespace:
            for path in (copy / "overlays" / name).glob("*.yaml"):
                path.write_text(path.read_text().replace("namespace: imagetrain\n", f"namespace: {namespace}\n"))
                path.write_text(path.read_text().replace("namespace: imagetrain ", f"namespace: {namespace} "))
        text = cluster.kubectl("kustomize", str(copy / "overlays" / name))
    objects = [document for document in yaml.safe_load_all(text) if document]
    # PyYAML reads the defaults like 1e-07 in it as text.
    return [each for each in objects if each["kind"] != "CustomResourceDefinition"]


def install_rights(cluster: cluster_module.Cluster) -> None:
    """Install everything of the cluster-wide overlay but the Deployment; the operator then runs as a process."""
    install_kind(cluster)
    cluster.apply(*(each for each in build_overlay(cluster, "cluster-wide") if each["kind"] != "Deployment"))


def install_kind(cluster: cluster_module.Cluster) -> None:
    """Install the CustomResourceDefinition and the roles of its users, as an administrator does."""
    cluster.kubectl("apply", "--server-side", "--kustomize", str(MANIFESTS / "crd"))
    cluster.wait_for_definition("imagetrainingjobs.imagetrain.dev")


def build_node_notices(cluster: cluster_module.Cluster, folder: pathlib.Path) -> list[dict[str, Any]]:
    """Return what an administrator's own overlay adds to the operator's rights with the component for node notices.

    Args:
        cluster: its kubectl builds the overlay.
        folder: a copy of the manifests is put there.
    """
    shutil.copytree(MANIFESTS, folder / "manifests")
    lines = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../manifests/overlays/cluster-wide"],
        "components": ["../manifests/components/node-notices"],
    }
    (folder / "own").mkdir()
    (folder / "own" / "kustomization.yaml").write_text(yaml.safe_dump(lines))
    objects = yaml.safe_load_all(cluster.kubectl("kustomize", str(folder / "own")))
    return [each for each in objects if each["metadata"]["name"].startswith("imagetrain-operator-node-notices")]


def write_kubeconfig(
    cluster: cluster_module.Cluster, folder: pathlib.Path, namespace: str = SYSTEM_NAMESPACE
) -> pathlib.Path:
    """Write a kubeconfig with a token of the operator's ServiceAccount, for processes in the client namespace."""
    token = cluster.kubectl(
        "create", "token", "imagetrain-operator", f"--namespace={namespace}", "--duration=24h"
    ).strip()
    config = yaml.safe_load(cluster.client_kubeconfig.read_text())
    for user in config["users"]:
        user["user"] = {"token": token}
    path = folder / f"operator-{namespace}.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return path


def refused_kubectl(cluster: cluster_module.Cluster, *arguments: str, stdin: str) -> str:
    """Run a kubectl that must fail, and return what it said."""
    try:
        cluster.kubectl(*arguments, stdin=stdin)
    except errors.ClusterError as error:
        return str(error)
    raise AssertionError(f"kubectl {' '.join(arguments)} did not fail")


class OperatorProcess:
    """One operator that a test starts, stops and kills."""

    def __init__(
        self,
        cluster: cluster_module.Cluster,
        folder: pathlib.Path,
        kubeconfig: pathlib.Path,
        *arguments: str,
        port: int = 8080,
        lease_seconds: int = 4,
    ) -> None:
        self._cluster = cluster
        self.port = port
        self._folder = folder
        self._kubeconfig = kubeconfig
        self._arguments = arguments or ("--all-namespaces",)
        self._lease_seconds = lease_seconds
        self._process: subprocess.Popen[str] | None = None
        self._starts = 0

    @property
    def log(self) -> pathlib.Path:
        """The newest start's log."""
        return self._folder / f"operator-{self._starts}.log"

    @property
    def pid(self) -> int:
        """Of the newest start."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; it may have to wait for the lease of an earlier one."""
        assert not self.is_running
        self._starts += 1
        with self.log.open("w") as file:
            self._process = self._cluster.popen(
                [
                    COMMAND,
                    *self._arguments,
                    f"--trainer-image={host_files.IMAGE}",
                    f"--listen-port={self.port}",
                    f"--lease-namespace={SYSTEM_NAMESPACE}",
                    f"--lease-duration-seconds={self._lease_seconds}",
                    "--progress-interval-seconds=2",
                    "--log-format=json",
                ],
                env={"KUBECONFIG": str(self._kubeconfig)},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def wait_until_serving(self, seconds: float = 30) -> None:
        """Wait until it holds the lease and watches."""
        self.wait_for("serving", seconds=seconds)

    def wait_for(self, message: str, *, seconds: float) -> None:
        """Wait until it has logged a message that begins so."""
        deadline = time.monotonic() + seconds
        while not any(line["message"].startswith(message) for line in self.lines()):
            assert self.is_running, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def lines(self) -> list[dict[str, Any]]:
        """Return the JSON lines of the newest start's log."""
        found = []
        for line in self.log.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue  # a line that is being written
        return found

    def kill(self) -> None:
        """End it as kill -9 does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def stop(self) -> int:
        """End it as Kubernetes ends a pod; return its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(20)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, seconds: float) -> int:
        """Wait for its end; return its exit status."""
        assert self._process is not None
        return self._process.wait(seconds)

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples with these labels, as Prometheus would scrape them."""
        text = fetch(self._cluster, "127.0.0.1", self.port, "/metrics")
        return sum(
            sample.value
            for family in prometheus_client.parser.text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def close(self) -> None:
        """End it, whatever its state."""
        if self.is_running:
            self.kill()


def fetch(cluster: cluster_module.Cluster, host: str, port: int, path: str) -> str:
    """Return what a server in the cluster answers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{cluster.forward(host, port)}{path}", timeout=10) as answer:
        text: str = answer.read().decode()
        return text
