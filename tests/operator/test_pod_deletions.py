"""Deletion of single pods against a real API server."""

import collections.abc
import dataclasses
import datetime as dt
from typing import Any

import kopf
import pytest

import observations
from imagetrain_api import names
from imagetrain_cluster import cluster as cluster_module
from imagetrain_operator import observed, paths
from imagetrain_operator.cluster import client, errors, informer, pod_deletions, recorder
from imagetrain_operator.plan import draft, parse

Test = collections.abc.Callable[[client.ApiClient], collections.abc.Awaitable[None]]


def build_pod(namespace: str) -> dict[str, Any]:
    """Return a worker's pod on a node that does not exist, which nobody but the API server deals with."""
    labels = {names.LABEL_JOB: "digits", names.LABEL_ATTEMPT: "0", names.LABEL_RANK: "1", names.LABEL_RUN: "run"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "digits-0-1-x", "namespace": namespace, "labels": labels},
        "spec": {
            "nodeName": "spot-0",
            "terminationGracePeriodSeconds": 60,
            "automountServiceAccountToken": False,
            "containers": [{"name": "worker", "image": "none"}],
        },
    }


def build_deletion(raw: dict[str, Any], *, by_force: bool = False, **changes: Any) -> draft.PodDeletion:
    pod = parse.parse_pod(raw)
    assert pod is not None
    return draft.PodDeletion(
        pod=dataclasses.replace(pod, **changes),
        reason="NodeReclaimed",
        why="Node spot-0 is about to be taken away.",
        by_force=by_force,
        event=draft.PlannedEvent(kind="Warning", reason="NodeReclaimed", message="The pod is deleted."),
    )


def test_pod_is_told_why_it_is_deleted_and_keeps_its_grace_period(
    cluster: cluster_module.Cluster,
    run: collections.abc.Callable[[Test], None],
    without_rights: kopf.ConnectionInfo,
    plain_namespace: str,
) -> None:
    now, key = dt.datetime.now(dt.UTC), observed.Key(plain_namespace, "digits")
    job = dataclasses.replace(observations.build_job(), key=key)
    path = paths.pod(plain_namespace, "digits-0-1-x")

    async def apply(
        api: client.ApiClient, deletion: draft.PodDeletion, times: int = 1
    ) -> tuple[observed.Pod, list[float]]:
        """Carry out a deletion; return what the cache holds then, and when the job is to be looked at again."""
        cache, waits = informer.PodCache(), list[float]()
        cache.put(deletion.pod)
        deletions = pod_deletions.PodDeletions(
            api, cache, recorder.Recorder(api, "test"), lambda _, seconds: waits.append(seconds)
        )
        for _ in range(times):
            await deletions.apply(job, deletion, now)
        (pod,) = cache.of_job(key)
        return pod, waits

    async def test(api: client.ApiClient) -> None:
        raw = await api.create(paths.pods(plain_namespace), build_pod(plain_namespace))
        answers = list[str]()
        async with client.ApiClient(lambda: without_rights, lambda _, code: answers.append(code)) as weak:
            known, waits = await apply(weak, build_deletion(raw), times=2)
        assert (known.deletion_deadline, waits, answers) == (None, [60.0], ["403"])  # not asked again for a minute
        other = build_deletion(raw, uid="00000000-0000-4000-8000-000000000000")
        assert (await apply(api, other))[0].deletion_deadline is None
        assert "deletionTimestamp" not in (await api.get(path))["metadata"]

        known, waits = await apply(api, build_deletion(raw))
        assert waits == [0.0]
        assert (known.disruption, known.disruption_message) == ("NodeReclaimed", build_deletion(raw).why)
        found = await api.get(path)
        assert found["metadata"]["deletionGracePeriodSeconds"] == 60
        assert found["status"]["phase"] == "Pending"
        assert known == dataclasses.replace(known, resource_version=found["metadata"]["resourceVersion"])
        await apply(api, build_deletion(raw))  # as an operator that has not seen it yet
        assert (await api.get(path))["metadata"]["deletionTimestamp"] == found["metadata"]["deletionTimestamp"]

        known, waits = await apply(api, build_deletion(raw, by_force=True))
        assert (known.is_gone, known.phase, waits) == (True, "Failed", [0.0])
        with pytest.raises(errors.NotFoundError):
            await api.get(path)
        assert (await apply(api, build_deletion(raw)))[1] == []  # it is gone

    run(test)
    told = [event for event in cluster.list("events", namespace=plain_namespace) if event["reason"] == "NodeReclaimed"]
    assert [event["message"] for event in told] == ["The pod is deleted."] * 3  # of three deletions that took place
