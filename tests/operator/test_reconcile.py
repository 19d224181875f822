"""The reconciler's memory: what counts as news of a job, and which pods it keeps in mind."""

import asyncio
import copy
import datetime as dt
import pathlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

import cluster_objects
import jobs
import observations
import waiting_tasks
from imagetrain_api import names, schema, status
from imagetrain_operator import metrics, observed, paths, reconcile
from imagetrain_operator.cluster import client, findings, informer, node_notices, progress_board, queue, recorder
from imagetrain_operator.plan import children, group


def build_raw() -> dict[str, Any]:
    manifest = jobs.build_document(pathlib.Path("/x"))
    metadata = {"name": "digits", "namespace": "vision", "uid": "u1", "generation": 1, "resourceVersion": "10"}
    return {**manifest, "metadata": metadata, "status": {"phase": "Suspended"}}


@pytest.mark.parametrize(
    ("change", "is_news"),
    [
        ({}, False),
        ({"annotations": {"example.com/change": "1"}, "labels": {"team": "vision"}}, False),
        ({"generation": 2}, True),
        ({"deletionTimestamp": "2026-11-24T10:00:00Z"}, True),
        ({"uid": "u2"}, True),  # another job of the same name
    ],
)
def test_only_what_decides_something_is_news(change: dict[str, Any], is_news: bool) -> None:  # noqa: FBT001
    cache = reconcile.JobCache()
    assert cache.put(build_raw())[1]
    changed = copy.deepcopy(build_raw())
    changed["metadata"] |= {**change, "resourceVersion": "11"}
    assert cache.put(changed)[1] == is_news
    known = cache.get(observed.Key("vision", "digits"))
    assert known is not None
    assert known.resource_version == "11"  # the audit of the watch compares it


def test_status_that_another_hand_changed_is_news() -> None:
    cache = reconcile.JobCache()
    cache.put(build_raw())
    changed = build_raw()
    changed["metadata"]["resourceVersion"] = "11"
    changed["status"] = {"phase": "Failed"}
    assert cache.put(changed)[1]


def build_reconciler(
    pods: informer.PodCache,
    *,
    api: client.ApiClient | None = None,
    cache: reconcile.JobCache | None = None,
    child_jobs: tuple[observed.ChildJob, ...] = (),
    notices: node_notices.NodeNotices | None = None,
) -> reconcile.Reconciler:
    """Return a reconciler that has heard of these pods, and of no job unless one is given."""
    work = queue.WorkQueue(asyncio.get_running_loop().time)
    cache = cache or reconcile.JobCache()
    figures = metrics.OperatorMetrics(lambda: cache, lambda: len(work))
    api = api or client.ApiClient(lambda: pytest.fail("nothing is to be asked"), figures.count_request)
    known = informer.ChildCache[observed.ChildJob]()
    for child in child_jobs:
        known.put(child)
    return reconcile.Reconciler(
        reconcile.Surroundings(
            api=api,
            jobs=cache,
            child_jobs=known,
            pods=pods,
            queue=work,
            board=progress_board.ProgressBoard(1.0, work.add),
            findings=findings.Findings(api, work.add),
            recorder=recorder.Recorder(api, "test"),
            metrics=figures,
            defaults=children.Defaults(image="trainer:1", image_pull_policy=None),
            status_interval_seconds=1.0,
            notices=notices,
        )
    )


def test_pods_that_ended_are_kept_until_their_job_is_known_and_dropped_once_they_are_gone() -> None:
    async def main() -> None:
        pods = informer.PodCache()
        ended = observations.build_pod(0, phase="Succeeded", exit_code=0)
        pods.put(ended)
        reconciler = build_reconciler(pods)
        await reconciler.reconcile(observations.KEY)  # as at the start, when pods are listed before jobs
        assert pods.of_job(observations.KEY) == (ended,)
        remembered = group.remember(ended)
        assert remembered is not None
        pods.put(remembered)
        await reconciler.reconcile(observations.KEY)
        assert pods.of_job(observations.KEY) == ()

    asyncio.run(main())


def test_an_attempt_is_counted_when_it_ends_and_as_a_restart_where_another_follows() -> None:
    async def main() -> None:
        reconciler = build_reconciler(informer.PodCache())
        job = observations.build_job(status.JobStatus(attempt=0))
        ended = status.AttemptStatus(attempt=0, reason="OOMKilled")
        restarted = status.JobStatus(attempt=1, attempts=(ended,))
        reconciler._count(job, restarted)
        reconciler._count(observations.build_job(restarted), restarted)  # told again, and counted once
        last = status.AttemptStatus(attempt=1, reason="BadConfig")
        reconciler._count(observations.build_job(restarted), status.JobStatus(attempt=1, attempts=(ended, last)))
        figures = reconciler._around.metrics.registry
        for reason, restarts in (("OOMKilled", 1), ("BadConfig", None)):
            labels = {"namespace": "vision", "reason": reason}
            assert figures.get_sample_value("imagetrain_operator_attempts_ended_total", labels) == 1
            assert figures.get_sample_value("imagetrain_operator_restarts_total", labels) == restarts

    asyncio.run(main())


def test_answer_that_comes_after_a_newer_event_changes_nothing() -> None:
    cache = reconcile.JobCache()
    newer, older = build_raw(), build_raw()
    newer["metadata"] |= {"resourceVersion": "100", "generation": 2}
    older["metadata"]["resourceVersion"] = "99"
    cache.put(newer)
    assert not cache.put(older)[1]
    known = cache.get(observed.Key("vision", "digits"))
    assert known is not None
    assert (known.resource_version, known.generation) == ("100", 2)


class RecordingApi(client.ApiClient):
    """Takes every write, and remembers it in few words."""

    def __init__(self, nodes: list[dict[str, Any]]) -> None:
        super().__init__(lambda: pytest.fail("nothing is to be asked"), lambda _verb, _code: None)
        self.writes: list[str] = []
        self._nodes = nodes
        self._pod: dict[str, Any] = {}

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        assert path == paths.nodes()
        del params
        return {"metadata": {"resourceVersion": "1"}, "items": self._nodes}

    async def watch(self, path: str, params: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
        del path, params
        yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "2"}}}
        await asyncio.Event().wait()

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        self.writes.append(f"create {path.rpartition('/')[2]} {body['reason']}")
        return dict(body)

    async def merge_patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        self.writes.append(f"patch {path.rpartition('/')[2]}")
        raw = build_raw()
        raw["metadata"] |= {"uid": observations.UID, "namespace": "vision", "resourceVersion": "11"}
        return {**raw, "status": body["status"]}

    async def strategic_patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        (condition,) = body["status"]["conditions"]
        self.writes.append(f"patch {path.partition('/pods/')[2]} {condition['reason']}")
        self._pod = cluster_objects.build_running_pod(rank=1, node="n2", status_conditions=[condition])
        return self._pod

    async def delete(self, path: str, uid: str, *, by_force: bool = False) -> dict[str, Any]:
        self.writes.append(f"delete {path.partition('/pods/')[2]} {uid} {by_force}")
        known = observations.build_pod(1)
        labels = {**self._pod["metadata"]["labels"], names.LABEL_JOB: known.job_name, names.LABEL_RUN: known.run_id}
        self._pod["metadata"] |= {"name": known.name, "uid": uid, "labels": labels}
        deadline = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=120)
        self._pod["metadata"] |= {"deletionTimestamp": deadline.isoformat(), "deletionGracePeriodSeconds": 120}
        return self._pod


def test_pod_on_a_node_with_a_notice_is_told_and_deleted_once() -> None:
    taint = {"key": "aws-node-termination-handler/spot-itn", "effect": "NoSchedule"}
    nodes = [{"metadata": {"name": "n2", "uid": "node-2"}, "spec": {"taints": [taint]}}]

    async def main() -> None:
        api, cache, pods = RecordingApi(nodes), reconcile.JobCache(), informer.PodCache()
        raw = build_raw()
        raw["metadata"]["uid"] = observations.UID
        raw["status"] = schema.encode(observations.training().status)
        cache.put(raw)
        for rank in (0, 1):
            pods.put(observations.build_pod(rank, placed_at=observations.NOW))
        heard = list[str]()
        notices = node_notices.NodeNotices(api, [taint["key"]], heard.append, lambda: None)
        reconciler = build_reconciler(
            pods, api=api, cache=cache, child_jobs=(observations.build_child(),), notices=notices
        )
        async with waiting_tasks.running(notices.run()):
            await notices.is_synced.wait()
            for _ in range(3):
                await reconciler.reconcile(observations.KEY)
        assert heard == ["n2"]
        assert pods.jobs_on("n2") == (observations.KEY,)
        name = observations.build_pod(1).name
        assert [write for write in api.writes if write != "patch status"] == [
            f"patch {name}/status NodeReclaimed",
            f"delete {name} pod-0-1 False",
            "create events NodeReclaimed",
        ]

    asyncio.run(main())
