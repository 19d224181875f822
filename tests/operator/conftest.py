"""Connections to the API server, as an administrator and as somebody without any right."""

import asyncio
import collections.abc
import dataclasses

import kopf
import pytest

from imagetrain_cluster import cluster as cluster_module
from imagetrain_operator import handlers
from imagetrain_operator.cluster import client

Test = collections.abc.Callable[[client.ApiClient], collections.abc.Awaitable[None]]


@pytest.fixture
def run(cluster: cluster_module.Cluster, monkeypatch: pytest.MonkeyPatch) -> collections.abc.Callable[[Test], None]:
    """Return a function that runs a coroutine with an administrator's client."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))

    def run_test(test: Test) -> None:
        async def main() -> None:
            settings = handlers.build_settings()
            async with client.ApiClient(lambda: client.read_connection(settings), lambda _verb, _code: None) as api:
                await asyncio.wait_for(test(api), 90)

        asyncio.run(main())

    return run_test


@pytest.fixture
def without_rights(
    cluster: cluster_module.Cluster, plain_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> kopf.ConnectionInfo:
    """Return the connection of a ServiceAccount that may do nothing."""
    cluster.kubectl("create", "serviceaccount", "nobody", f"--namespace={plain_namespace}")
    token = cluster.kubectl("create", "token", "nobody", f"--namespace={plain_namespace}").strip()
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    return dataclasses.replace(
        client.read_connection(handlers.build_settings()),
        token=token,
        certificate_path=None,
        certificate_data=None,
        private_key_path=None,
        private_key_data=None,
    )
