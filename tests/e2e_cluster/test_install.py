"""The one-namespace install: the operator as a restricted pod with rights in its own namespace, and in no other."""

import collections.abc
import json
import pathlib
import sys
import time
from typing import Any

import pytest

import cluster_jobs
import operator_processes
from imagetrain_cluster import cluster as cluster_module
from imagetrain_cluster import host_files

OPERATOR = "system:serviceaccount:{}:imagetrain-operator"
DEPLOYMENT = "imagetrain-operator"


def on_the_machines_python(deployment: dict[str, Any]) -> dict[str, Any]:
    """Return the Deployment with the one change that the tests need: this checkout instead of an image."""
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    container["image"] = host_files.IMAGE
    container["command"] = [f"{sys.prefix}/bin/imagetrain-operator"]
    container["volumeMounts"] = host_files.build_mounts()
    container["env"].append({"name": "IMAGETRAIN_OPERATOR_LEASE_DURATION_SECONDS", "value": "4"})
    pod["volumes"] = host_files.build_volumes()
    return deployment


@pytest.fixture
def installed(
    cluster: cluster_module.Cluster, namespace: str, no_operator: None, tmp_path: pathlib.Path
) -> collections.abc.Iterator[str]:
    """Install the overlay into a fresh namespace, as its README says; return the namespace."""
    operator_processes.install_kind(cluster)
    for each in operator_processes.build_overlay(cluster, "one-namespace", namespace=namespace):
        cluster.apply(on_the_machines_python(each) if each["kind"] == "Deployment" else each)
    cluster.wait_for_deployment(namespace, DEPLOYMENT, timeout_seconds=60)
    yield namespace
    cluster.kubectl("delete", f"deployment/{DEPLOYMENT}", f"--namespace={namespace}")


def test_operator_as_a_pod_serves_its_namespace_and_no_other(
    cluster: cluster_module.Cluster, installed: str, plain_namespace: str
) -> None:
    here = cluster_jobs.ClusterJobs.without_storage(cluster, installed)
    elsewhere = cluster_jobs.ClusterJobs.without_storage(cluster, plain_namespace)
    worker = {"nodeSelector": {"no": "such-node"}}  # its state is told though nothing can run
    for jobs in (elsewhere, here):
        jobs.apply(jobs.build(worker=worker))
    status = here.wait("digits", lambda found: found.get("reason") == "Unschedulable", seconds=40, what="Unschedulable")
    assert status["ready"] == "0/2"
    assert elsewhere.status("digits") == {}
    assert elsewhere.children("digits") == []


@pytest.mark.parametrize(
    ("verb", "resource", "where", "allowed"),
    [
        ("create", "jobs.batch", "own", "yes"),
        ("patch", "imagetrainingjobs.imagetrain.dev/status", "own", "yes"),
        ("create", "jobs.batch", "other", "no"),
        ("list", "pods", "other", "no"),
        ("list", "imagetrainingjobs.imagetrain.dev", "other", "no"),
        ("get", "secrets", "own", "no"),
        ("list", "secrets", "own", "no"),
        ("get", "configmaps", "own", "no"),
        ("create", "pods", "own", "no"),
        ("delete", "pods", "own", "yes"),
        ("delete", "pods", "other", "no"),
        ("patch", "pods/status", "own", "yes"),
        ("patch", "pods/status", "other", "no"),
        ("list", "namespaces", "other", "no"),
        ("list", "nodes", "other", "no"),
    ],
)
def test_rights_end_at_the_namespace_and_never_reach_secrets(
    cluster: cluster_module.Cluster,
    rights_of_namespace: str,
    verb: str,
    resource: str,
    where: str,
    allowed: str,
) -> None:
    namespace = rights_of_namespace if where == "own" else "default"
    user = OPERATOR.format(rights_of_namespace)
    kind, _, sub = resource.partition("/")
    arguments = ["auth", "can-i", verb, kind, f"--as={user}", f"--namespace={namespace}"]
    if sub:
        arguments.append(f"--subresource={sub}")
    assert cluster.kubectl(*arguments, check=False).strip().splitlines()[-1] == allowed


@pytest.fixture(scope="module")
def rights_of_namespace(_own_cluster: cluster_module.Cluster | str) -> collections.abc.Iterator[str]:
    """Make the overlay's ServiceAccount and rights in a namespace of their own; return its name."""
    assert isinstance(_own_cluster, cluster_module.Cluster)
    name = f"rights-{time.time_ns() % 10**8}"
    operator_processes.install_kind(_own_cluster)
    _own_cluster.kubectl("create", "namespace", name)
    objects = operator_processes.build_overlay(_own_cluster, "one-namespace", namespace=name)
    _own_cluster.apply(*(each for each in objects if each["kind"] != "Deployment"))
    yield name
    _own_cluster.kubectl("delete", "namespace", name, "--wait=false")


def test_one_namespace_install_makes_nothing_of_the_whole_cluster(cluster: cluster_module.Cluster) -> None:
    objects = operator_processes.build_overlay(cluster, "one-namespace")
    assert not [each["kind"] for each in objects if each["kind"].startswith("Cluster") or each["kind"] == "Namespace"]
    assert "secrets" not in json.dumps(objects)
