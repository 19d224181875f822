"""The reconciler's memory: what counts as news of a job, and which pods it keeps in mind."""

import asyncio
import copy
import pathlib
from typing import Any

import pytest

import jobs
import observations
from imagetrain_api import status
from imagetrain_operator import metrics, observed, reconcile
from imagetrain_operator.cluster import client, findings, informer, progress_board, queue, recorder
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


def build_reconciler(pods: informer.PodCache) -> reconcile.Reconciler:
    """Return a reconciler that has heard of these pods and of no job."""
    work = queue.WorkQueue(asyncio.get_running_loop().time)
    cache = reconcile.JobCache()
    figures = metrics.OperatorMetrics(lambda: cache, lambda: len(work))
    api = client.ApiClient(lambda: pytest.fail("nothing is to be asked"), figures.count_request)
    return reconcile.Reconciler(
        reconcile.Surroundings(
            api=api,
            jobs=cache,
            child_jobs=informer.ChildCache(),
            pods=pods,
            queue=work,
            board=progress_board.ProgressBoard(1.0, work.add),
            findings=findings.Findings(api, work.add),
            recorder=recorder.Recorder(api, "test"),
            metrics=figures,
            defaults=children.Defaults(image="trainer:1", image_pull_policy=None),
            status_interval_seconds=1.0,
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
