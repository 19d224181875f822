"""The operator's own parts against a real API server: errors, caches, the Lease, the audit of the watch."""

import asyncio
import collections.abc
import time
from typing import Any

import kopf
import pytest

import cluster_jobs
import operator_processes
import waiting_tasks
from imagetrain_api import names
from imagetrain_cluster import cluster as cluster_module
from imagetrain_operator import handlers, observed, paths, reconcile
from imagetrain_operator.cluster import audit, client, errors, informer, lease, queue
from imagetrain_operator.plan import parse

Test = collections.abc.Callable[[client.ApiClient], collections.abc.Awaitable[None]]


def build_labelled_job(namespace: str, name: str = "digits-0", attempt: int = 0) -> dict[str, Any]:
    """Return a suspended Job with the labels of an attempt: it makes no pods."""
    container = {"name": "worker", "image": "none"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {names.LABEL_JOB: "digits", names.LABEL_ATTEMPT: str(attempt)},
        },
        "spec": {"suspend": True, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }


def test_refusals_are_told_apart(run: collections.abc.Callable[[Test], None], plain_namespace: str) -> None:
    async def test(api: client.ApiClient) -> None:
        jobs = paths.child_jobs(plain_namespace)
        with pytest.raises(errors.NotFoundError):
            await api.get(f"{jobs}/nothing")
        created = await api.create(jobs, build_labelled_job(plain_namespace))
        with pytest.raises(errors.AlreadyExistsError):
            await api.create(jobs, build_labelled_job(plain_namespace))
        broken = build_labelled_job(plain_namespace, "digits-1")
        broken["spec"]["completions"] = -1
        with pytest.raises(errors.RefusedError, match=r"spec\.completions") as refused:
            await api.create(jobs, broken)
        assert refused.value.code == 422
        misspelt = build_labelled_job(plain_namespace, "digits-1")
        misspelt["spec"]["complétions"] = 1
        with pytest.raises(errors.RefusedError, match="unknown field"):
            await api.create(jobs, misspelt)
        with pytest.raises(errors.ConflictError):
            await api.delete(f"{jobs}/digits-0", "00000000-0000-0000-0000-000000000000")  # another one's uid
        await api.delete(f"{jobs}/digits-0", created["metadata"]["uid"])

    run(test)


def test_server_that_is_not_there_is_unavailable() -> None:
    async def main() -> None:
        nowhere = kopf.ConnectionInfo(server="http://127.0.0.1:1")
        async with client.ApiClient(lambda: nowhere, lambda _verb, _code: None) as api:
            with pytest.raises(errors.UnavailableError):
                await api.get("/api")

    asyncio.run(main())


def test_cache_follows_the_server_and_outlives_its_restart(
    cluster: cluster_module.Cluster, run: collections.abc.Callable[[Test], None], plain_namespace: str
) -> None:
    key = observed.Key(plain_namespace, "digits")

    async def test(api: client.ApiClient) -> None:
        cache, changed = informer.ChildCache[observed.ChildJob](), list[observed.Key]()
        jobs = paths.child_jobs(plain_namespace)
        await api.create(jobs, build_labelled_job(plain_namespace))
        watch = informer.Informer(
            api, jobs, names.LABEL_JOB, parse.parse_child_job, cache, changed.append, lambda: None
        )
        async with waiting_tasks.running(watch.run()):
            await watch.is_synced.wait()
            assert [child.name for child in cache.of_job(key)] == ["digits-0"]
            await api.create(jobs, build_labelled_job(plain_namespace, "digits-1", 1))
            await waiting_tasks.until(lambda: len(cache.of_job(key)) == 2)
            await asyncio.to_thread(cluster.restart_api_server)
            await api.create(jobs, build_labelled_job(plain_namespace, "digits-2", 2))
            await waiting_tasks.until(lambda: len(cache.of_job(key)) == 3)
            first = next(child for child in cache.of_job(key) if child.attempt == 0)
            await api.delete(f"{jobs}/digits-0", first.uid)
            await waiting_tasks.until(lambda: len(cache.of_job(key)) == 2)
        assert set(changed) == {key}

    run(test)


def test_what_was_deleted_between_two_lists_is_forgotten(
    run: collections.abc.Callable[[Test], None], plain_namespace: str
) -> None:
    key = observed.Key(plain_namespace, "digits")

    async def test(api: client.ApiClient) -> None:
        cache, jobs = informer.ChildCache[observed.ChildJob](), paths.child_jobs(plain_namespace)
        created = await api.create(jobs, build_labelled_job(plain_namespace))
        watch = informer.Informer(
            api, jobs, names.LABEL_JOB, parse.parse_child_job, cache, lambda _: None, lambda: None
        )
        async with waiting_tasks.running(watch.run()):
            await watch.is_synced.wait()
        await api.delete(f"{jobs}/digits-0", created["metadata"]["uid"])
        watch.is_synced.clear()
        async with waiting_tasks.running(watch.run()):
            await watch.is_synced.wait()
            assert cache.of_job(key) == ()

    run(test)


def test_one_of_two_candidates_leads_and_the_other_follows_in_time(
    run: collections.abc.Callable[[Test], None], plain_namespace: str
) -> None:
    async def test(api: client.ApiClient) -> None:
        first, second = (
            lease.LeaderElection(
                api,
                namespace=plain_namespace,
                name="operator",
                identity=identity,
                duration_seconds=3,
                renew_seconds=0.3,
            )
            for identity in ("first", "second")
        )
        await first.acquire()
        waiting = asyncio.create_task(second.acquire())
        async with waiting_tasks.running(first.hold()):
            await asyncio.sleep(4)  # longer than the lease: it is renewed
            assert first.is_leader
            assert not waiting.done()
        begun = time.monotonic()  # the first is silent from now on
        await waiting
        assert 1.5 < time.monotonic() - begun < 6
        assert second.is_leader
        assert not first.is_leader  # it knew by itself, before the second took over
        await second.release()
        begun = time.monotonic()
        await first.acquire()
        assert time.monotonic() - begun < 2  # a lease that was given back is free at once

    run(test)


def test_audit_finds_and_mends_what_a_dead_watch_missed(
    cluster: cluster_module.Cluster, run: collections.abc.Callable[[Test], None], plain_namespace: str
) -> None:
    operator_processes.install_kind(cluster)
    mine = cluster_jobs.ClusterJobs.without_storage(cluster, plain_namespace)

    async def test(api: client.ApiClient) -> None:
        work, jobs = queue.WorkQueue(asyncio.get_running_loop().time), reconcile.JobCache()
        checked = audit.WatchAudit(
            api,
            (plain_namespace,),
            lambda: {job.key: job.resource_version for job in jobs},
            lambda kind, raw: handlers.take(kind, raw, jobs, work),
            interval_seconds=60,
        )
        await checked.compare()
        assert checked.is_watch_alive
        await asyncio.to_thread(mine.apply, mine.build(suspend=True))  # no watch runs here, so nothing tells of it
        await checked.compare()
        assert checked.is_watch_alive  # it may be on its way
        for _ in range(10):  # an operator of another test may still write its status: each version is news for a round
            await checked.compare()
            if not checked.is_watch_alive:
                break
        assert not checked.is_watch_alive
        key = observed.Key(plain_namespace, "digits")
        assert jobs.get(key) is not None
        assert await work.get() == key
        await checked.compare()
        assert checked.is_watch_alive
        await asyncio.to_thread(mine.delete, "digits", wait=True)
        await checked.compare()
        await checked.compare()
        assert jobs.get(key) is None

    run(test)
