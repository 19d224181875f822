"""Fixtures of the cluster's own tests: pods in short."""

import collections.abc
import json
from typing import Any

import pytest

import s3_servers
from imagetrain_cluster import cluster as cluster_module
from imagetrain_cluster import host_files, tools, wait


class Pods:
    """Pods of one test in its namespace, as restricted as a worker's."""

    def __init__(self, cluster: cluster_module.Cluster, namespace: str) -> None:
        self._cluster = cluster
        self.namespace = namespace

    def create(self, name: str, command: list[str], *, node: str = "", gpus: int = 0, service: str = "") -> None:
        """Create a pod that runs a command of the machine, by default on any node."""
        container = {
            "name": "main",
            "image": host_files.IMAGE,
            "command": command,
            "resources": {"limits": {cluster_module.GPU: gpus}} if gpus else {},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            },
            "volumeMounts": [*host_files.build_mounts(), {"name": "scratch", "mountPath": "/tmp"}],
        }
        spec: dict[str, Any] = {
            "hostname": name,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "nodeSelector": {"kubernetes.io/hostname": node} if node else {},
            "containers": [container],
            "volumes": [*host_files.build_volumes(), {"name": "scratch", "emptyDir": {}}],
        }
        if service:
            spec["subdomain"] = service
        metadata = {"name": name, "namespace": self.namespace, "labels": {"service": service or "none"}}
        self._cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})

    def create_service(self, name: str, *, headless: bool) -> None:
        """Create a service of the pods that name it, on port 8000."""
        spec = {"selector": {"service": name}, "ports": [{"port": 8000}], "publishNotReadyAddresses": True}
        if headless:
            spec["clusterIP"] = "None"
        metadata = {"name": name, "namespace": self.namespace}
        self._cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})

    def status(self, name: str) -> dict[str, Any]:
        """Return a pod's status."""
        found = self._cluster.get("pod", name, namespace=self.namespace)
        assert found is not None
        return dict(found["status"])

    def wait_for_phase(self, name: str, *phases: str, timeout_seconds: float = 60) -> dict[str, Any]:
        """Wait until a pod is in one of the phases, and return its status."""

        def status_in_phase() -> dict[str, Any] | None:
            status = self.status(name)
            return status if status["phase"] in phases else None

        what = f"pod {name} reaching one of {phases}"
        return wait.until(status_in_phase, timeout_seconds=timeout_seconds, what=what)

    def output(self, name: str, *, timeout_seconds: float = 60) -> str:
        """Wait for a pod to end well and return what it printed."""
        status = self.wait_for_phase(name, "Succeeded", "Failed", timeout_seconds=timeout_seconds)
        log = self._cluster.kubectl("logs", name, f"--namespace={self.namespace}")
        assert status["phase"] == "Succeeded", json.dumps(status, indent=1) + log
        return log


@pytest.fixture
def pods(cluster: cluster_module.Cluster, namespace: str) -> Pods:
    return Pods(cluster, namespace)


@pytest.fixture
def s3_in_cluster(cluster: cluster_module.Cluster) -> s3_servers.VersitygwServer:
    """Return the S3 server in the cluster as this process reaches it."""
    s3 = cluster.s3()
    return s3_servers.VersitygwServer(
        endpoint_url=s3.local_endpoint_url,
        access_key=s3.access_key,
        secret_key=s3.secret_key,
        region=s3.region,
        binary=tools.find("versitygw"),
        root=s3.buckets,
    )


@pytest.fixture
def killed_node(cluster: cluster_module.Cluster) -> collections.abc.Iterator[int]:
    """Kill the second node; it runs again afterwards."""
    cluster.kill_node(2)
    yield 2
    cluster.start_node(2)


@pytest.fixture
def partitioned_node(cluster: cluster_module.Cluster) -> collections.abc.Iterator[int]:
    """Cut the second node off; it is connected and Ready again afterwards."""
    cluster.partition_node(2)
    yield 2
    cluster.heal_node(2)
    wait.until(lambda: cluster.is_node_ready(2), timeout_seconds=60, what="n2 becoming Ready")
