"""Two operators at once: one holds the Lease and acts, the other waits and takes over."""

import collections.abc
import pathlib
import signal
import sys
import time

import pytest

import cluster_jobs
import operator_processes
from imagetrain_cluster import cluster as cluster_module

LEASE_SECONDS = 4
LOOK_SECONDS = 2.0  # between two looks at another's lease
START_SECONDS = 2.0  # to list everything, on two busy cores
WRITES = ("POST", "PUT", "PATCH", "DELETE")


@pytest.fixture
def other(
    cluster: cluster_module.Cluster,
    operator: operator_processes.OperatorProcess,
    operator_kubeconfig: pathlib.Path,
    tmp_path: pathlib.Path,
) -> collections.abc.Iterator[operator_processes.OperatorProcess]:
    """Return a second operator, which waits for the lease of the first."""
    process = operator_processes.OperatorProcess(
        cluster, tmp_path, operator_kubeconfig, port=8081, lease_seconds=LEASE_SECONDS
    )
    process.start()
    process.wait_for("listening", seconds=20)
    yield process
    if process.is_running:
        process.stop()  # it gives the lease back


def build_waiting(jobs: cluster_jobs.ClusterJobs, name: str) -> cluster_jobs.Job:
    """Return a job whose pods exist and find no node."""
    return jobs.build(name, worker={"nodeSelector": {"no": "such-node"}})


def wait_for_pending(jobs: cluster_jobs.ClusterJobs, name: str) -> None:
    jobs.wait(name, lambda status: status.get("reason") == "Unschedulable", seconds=30, what="Unschedulable")


def count_writes(process: operator_processes.OperatorProcess) -> float:
    return sum(process.metric("imagetrain_operator_api_requests_total", verb=verb) for verb in WRITES)


def assert_untouched(jobs: cluster_jobs.ClusterJobs, name: str, before: cluster_jobs.Job | None) -> None:
    now = jobs.get(name)
    assert now is not None
    assert before is not None
    assert now["status"] == before["status"]
    assert jobs.created_pods(name) == [(0, 0), (0, 1)]
    assert len(jobs.children(name)) == 1
    reasons = [event["reason"] for event in jobs.events(name)]
    assert sorted(reasons) == ["Started", "Unschedulable"]


def test_second_operator_writes_nothing_and_takes_over_from_one_that_was_killed(
    jobs: cluster_jobs.ClusterJobs,
    operator: operator_processes.OperatorProcess,
    other: operator_processes.OperatorProcess,
) -> None:
    jobs.apply(build_waiting(jobs, "early"))
    wait_for_pending(jobs, "early")
    before = jobs.get("early")
    assert count_writes(other) == 0
    assert operator.metric("imagetrain_operator_leader") == 1
    assert other.metric("imagetrain_operator_leader") == 0
    operator.kill()
    killed_at = time.monotonic()
    jobs.apply(build_waiting(jobs, "late"))
    other.wait_until_serving()
    elapsed = time.monotonic() - killed_at
    sys.stdout.write(f"take-over after kill -9: {elapsed:.1f} s with a lease of {LEASE_SECONDS} s\n")
    assert elapsed < LEASE_SECONDS + LOOK_SECONDS + START_SECONDS
    wait_for_pending(jobs, "late")
    assert other.metric("imagetrain_operator_leader") == 1
    assert_untouched(jobs, "early", before)


def test_stopped_operator_hands_over_at_once(
    jobs: cluster_jobs.ClusterJobs,
    operator: operator_processes.OperatorProcess,
    other: operator_processes.OperatorProcess,
) -> None:
    jobs.apply(build_waiting(jobs, "early"))
    wait_for_pending(jobs, "early")
    before = jobs.get("early")
    stopped_at = time.monotonic()
    assert operator.stop() == 0
    other.wait_until_serving()
    elapsed = time.monotonic() - stopped_at
    sys.stdout.write(f"take-over after SIGTERM: {elapsed:.1f} s\n")
    assert elapsed < LOOK_SECONDS + START_SECONDS
    jobs.apply(build_waiting(jobs, "late"))
    wait_for_pending(jobs, "late")
    assert_untouched(jobs, "early", before)


def test_operator_that_stood_still_for_longer_than_its_lease_ends_and_writes_nothing(
    jobs: cluster_jobs.ClusterJobs,
    operator: operator_processes.OperatorProcess,
    other: operator_processes.OperatorProcess,
) -> None:
    jobs.apply(build_waiting(jobs, "early"))
    wait_for_pending(jobs, "early")
    operator.signal(signal.SIGSTOP)
    try:
        jobs.patch("early", suspend=True)  # waits in the first operator's socket, too
        other.wait_until_serving()
        jobs.wait_for_phase("early", "Suspended", seconds=20)
        before = jobs.get("early")
    finally:
        operator.signal(signal.SIGCONT)
    assert operator.wait(20) == 3  # the lease was lost
    assert jobs.get("early") == before
    assert [event["reason"] for event in jobs.events("early")].count("SuspendRequested") == 1
