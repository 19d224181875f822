"""A control plane with the CustomResourceDefinition of this checkout."""

import collections.abc
import os
import pathlib
import time

import pytest

import raw_api
from imagetrain_cluster import cluster
from imagetrain_operator.crd import definition

NAMESPACE = "vision"
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture(scope="session")
def kubeconfig() -> collections.abc.Iterator[pathlib.Path]:
    """Return the cluster named by IMAGETRAIN_TEST_KUBECONFIG, or else a control plane of this session's own."""
    if given := os.environ.get("IMAGETRAIN_TEST_KUBECONFIG"):
        yield pathlib.Path(given)
        return
    control_plane = cluster.Cluster.up(cluster.HOME / f"test-crd-{os.getpid()}", nodes=0, owner=os.getpid())
    try:
        yield control_plane.kubeconfig
    finally:
        control_plane.down()


@pytest.fixture(scope="session")
def api_server(kubeconfig: pathlib.Path) -> collections.abc.Iterator[raw_api.RawApi]:
    """Return a client of an API server that knows ImageTrainingJob and has the namespace of the tables."""
    with raw_api.RawApi(kubeconfig) as api:
        api.apply("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        crd = definition.build_definition()
        api.apply(_CRDS, crd)
        deadline = time.monotonic() + 20
        while not _is_served(api, crd["metadata"]["name"]):
            assert time.monotonic() < deadline, "the API server did not serve the definition within 20 s"
        yield api


def _is_served(api: raw_api.RawApi, name: str) -> bool:
    conditions = api.request("GET", f"{_CRDS}/{name}").body.get("status", {}).get("conditions") or []
    is_established = any(c["type"] == "Established" and c["status"] == "True" for c in conditions)
    return is_established and api.request("GET", raw_api.jobs_path(NAMESPACE)).is_accepted
