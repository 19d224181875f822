"""The watch of nodes against a real API server: notices come and go, and a missing right is waited for."""

import asyncio
import collections.abc
import contextlib
import datetime as dt
from typing import Any

import kopf
import pytest

import waiting_tasks
from imagetrain_cluster import cluster as cluster_module
from imagetrain_operator import paths
from imagetrain_operator.cluster import client, errors, node_notices

SPOT = "aws-node-termination-handler/spot-itn"
NODES = ("spot-1", "spot-2", "spot-3")
Test = collections.abc.Callable[[client.ApiClient], collections.abc.Awaitable[None]]


def build_node(name: str, *taints: str, finalizers: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a node without a machine, on which nothing can be placed."""
    marks = [{"key": taint, "effect": "NoSchedule"} for taint in taints]
    metadata = {"name": name, "finalizers": list(finalizers)}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"taints": marks}}


@contextlib.asynccontextmanager
async def nodes(api: client.ApiClient, *objects: dict[str, Any]) -> collections.abc.AsyncIterator[None]:
    try:
        for each in objects:
            await api.create(paths.nodes(), each)
        yield
    finally:
        for each in objects:
            path = f"{paths.nodes()}/{each['metadata']['name']}"
            with contextlib.suppress(errors.NotFoundError):
                freed = await api.merge_patch(path, {"metadata": {"finalizers": None}})
                await api.delete(path, freed["metadata"]["uid"])


def test_notices_of_nodes_come_and_go_with_taints_and_deletions(run: collections.abc.Callable[[Test], None]) -> None:
    objects = (build_node("spot-1", SPOT), build_node("spot-2"), build_node("spot-3", finalizers=("example.com/hold",)))

    async def test(api: client.ApiClient) -> None:
        heard = list[str]()
        notices = node_notices.NodeNotices(api, [SPOT], heard.append, lambda: None)

        def told() -> dict[str, str]:
            return {notice.node: notice.taint for notice in notices.of_nodes(NODES)}

        async def taint(name: str, *taints: str) -> None:
            await api.merge_patch(f"{paths.nodes()}/{name}", {"spec": build_node(name, *taints)["spec"]})

        async with nodes(api, *objects), waiting_tasks.running(notices.run()):
            await notices.is_synced.wait()
            assert told() == {"spot-1": SPOT}
            await taint("spot-2", SPOT)
            await waiting_tasks.until(lambda: told() == {"spot-1": SPOT, "spot-2": SPOT})
            await taint("spot-1")
            await waiting_tasks.until(lambda: told() == {"spot-2": SPOT})
            await taint("spot-1", SPOT)
            await waiting_tasks.until(lambda: "spot-1" in told())
            found = await api.get(f"{paths.nodes()}/spot-3")
            await api.delete(f"{paths.nodes()}/spot-3", found["metadata"]["uid"])
            await waiting_tasks.until(lambda: told().get("spot-3") == "")
            assert heard == ["spot-1", "spot-2", "spot-1", "spot-3"]
            await api.merge_patch(f"{paths.nodes()}/spot-3", {"metadata": {"finalizers": None}})
            await waiting_tasks.until(lambda: "spot-3" not in told())
        assert all(notice.since <= dt.datetime.now(dt.UTC) for notice in notices.of_nodes(NODES))

    run(test)


def test_missing_right_on_nodes_is_told_once_and_asked_for_until_it_is_there(
    cluster: cluster_module.Cluster,
    run: collections.abc.Callable[[Test], None],
    without_rights: kopf.ConnectionInfo,
    plain_namespace: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers = list[str]()
    subject = f"--serviceaccount={plain_namespace}:nobody"

    async def test(_: client.ApiClient) -> None:
        async with client.ApiClient(lambda: without_rights, lambda _, code: answers.append(code)) as api:
            notices = node_notices.NodeNotices(api, [SPOT], lambda _: None, lambda: None)
            async with waiting_tasks.running(notices.run()):
                await waiting_tasks.until(lambda: answers.count("403") == 4)
                words = [record.message for record in caplog.records if "nodes cannot be watched" in record.message]
                assert len(words) == 1
                for word in ("list and watch on nodes", "manifests/components/node-notices"):
                    assert word in words[0]
                assert not notices.is_synced.is_set()
                await asyncio.to_thread(
                    cluster.kubectl, "create", "clusterrole", plain_namespace, "--verb=list,watch", "--resource=nodes"
                )
                await asyncio.to_thread(
                    cluster.kubectl,
                    "create",
                    "clusterrolebinding",
                    plain_namespace,
                    f"--clusterrole={plain_namespace}",
                    subject,
                )
                await asyncio.wait_for(notices.is_synced.wait(), 60)

    try:
        run(test)
    finally:
        for kind in ("clusterrolebinding", "clusterrole"):
            cluster.kubectl("delete", kind, plain_namespace, "--ignore-not-found")
