"""An API server that knows the ImageTrainingJob of this checkout."""

import collections.abc

import pytest

import job_tables
import raw_api
from imagetrain_cluster import access
from imagetrain_operator.crd import definition


@pytest.fixture(scope="session")
def _connections() -> collections.abc.Iterator[dict[str, raw_api.RawApi]]:
    """Keep one connection for all tests, and clean up behind them."""
    connections: dict[str, raw_api.RawApi] = {}
    yield connections
    for each in connections.values():
        each.request("DELETE", f"/api/v1/namespaces/{job_tables.NAMESPACE}")
        each.close()


@pytest.fixture
def api_server(kubernetes_api: access.Access, request: pytest.FixtureRequest) -> raw_api.RawApi:
    """Return a connection to an API server with our definition and the namespace of the tables."""
    # Asked for only now, so that it ends before the cluster does.
    connections: dict[str, raw_api.RawApi] = request.getfixturevalue("_connections")
    key = str(kubernetes_api.kubeconfig)
    if key not in connections:
        crd = definition.build_definition()
        kubernetes_api.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": job_tables.NAMESPACE}},
            crd,
        )
        kubernetes_api.wait_for_definition(crd["metadata"]["name"])
        connections[key] = raw_api.RawApi(kubernetes_api.kubeconfig)
    return connections[key]
