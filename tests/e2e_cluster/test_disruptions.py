"""What clusters do to pods: they are evicted, drained, cut off, frozen, and stay behind on a dead node.

The tests share one job that trains for minutes, for TensorFlow takes 10 to 30 s to start on two cores.
"""

import collections.abc
import json
import sys
import time
from typing import Any

import pytest

import cluster_jobs
import operator_processes
from imagetrain_api import names
from imagetrain_cluster import cluster as cluster_module
from imagetrain_cluster import network

NAME = "digits"
BACK_SECONDS = 100  # for a group to train again; TensorFlow starts in 10 s on two idle cores, in 30 s on busy ones
SILENT_SECONDS = 8  # more than a supervisor may be silent (6 s), less than a node (the cluster's 13 s)

# Sends a signal to process 1 of a pod: only its node can stop that.
SIGNAL_SUPERVISOR = """
import os, pathlib, sys
for path in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        is_of_pod = sys.argv[1] in (path / "cgroup").read_text()
        spaces = next(line for line in (path / "status").read_text().splitlines() if line.startswith("NSpid:"))
        words = (path / "cmdline").read_bytes()
    except (OSError, StopIteration):
        continue
    if is_of_pod and spaces.split()[-1] == "1" and b"imagetrain-worker" in words:
        os.kill(int(path.name), int(sys.argv[2]))
        print(path.name)
"""
STOP, CONTINUE = "19", "18"

Status = dict[str, Any]


@pytest.fixture
def trained(
    jobs_of_module: cluster_jobs.ClusterJobs, operator: operator_processes.OperatorProcess
) -> cluster_jobs.ClusterJobs:
    """Return the jobs of a namespace where one trains, has a checkpoint, and has a worker on each node."""
    if jobs_of_module.get(NAME) is None:
        recovery = {"forceDeleteAfterSeconds": 5, "maxRestarts": 50}
        job = jobs_of_module.long(
            NAME, worker={"topologySpreadConstraints": cluster_jobs.spread(NAME)}, recovery=recovery
        )
        job["spec"]["training"]["epochs"] = 5000  # more than any machine does while these tests run
        jobs_of_module.apply(job)
    wait_for_checkpoint(jobs_of_module)
    return jobs_of_module


def wait_for_checkpoint(jobs: cluster_jobs.ClusterJobs) -> Status:
    """Wait until the newest attempt trains and has saved a checkpoint of its own."""
    attempt = jobs.status(NAME).get("attempt", 0)

    def has_saved(status: Status) -> bool:
        if status.get("phase") != "Training" or status["attempt"] != attempt or "progress" not in status:
            return False
        ended = status.get("attempts", [])
        if ended and ended[-1]["attempt"] == attempt - 1 and "lostSeconds" not in ended[-1]:
            return False
        return bool(0 < status["progress"].get("checkpointStep", 0) <= status["progress"]["step"])

    return jobs.wait(NAME, has_saved, seconds=BACK_SECONDS, what="checkpoint")


def wait_for_next_attempt(jobs: cluster_jobs.ClusterJobs, before: Status) -> Status:
    """Wait until the next attempt has caught up; return the record of the one before."""

    def has_caught_up(status: Status) -> bool:
        return status["attempt"] > before["attempt"] and "lostSeconds" in status["attempts"][-1]

    status = jobs.wait(NAME, has_caught_up, seconds=BACK_SECONDS, what="attempt that has caught up")
    ended: Status = next(each for each in status["attempts"] if each["attempt"] == before["attempt"])
    assert status.get("restarts", 0) == before.get("restarts", 0)  # the job is not to blame
    return ended


def assert_nothing_lost(jobs: cluster_jobs.ClusterJobs, ended: Status, told: int) -> None:
    """Assert that the group saved when it was asked to stop, and that the event tells what it cost."""
    assert ended["resumedStep"] >= ended["step"] >= told
    assert 0 < ended["lostSeconds"] < BACK_SECONDS
    line = f"Attempt {ended['attempt']} ended at step {ended['step']} ({ended['reason']}, rank {ended['rank']}); "
    (message,) = [event["message"] for event in jobs.events(NAME) if event["message"].startswith(line)]
    assert message.endswith(f"from step {ended['resumedStep']}, {ended['lostSeconds']:.0f} s lost.")
    sys.stdout.write(f"{message}\n")


def pod_of_rank(jobs: cluster_jobs.ClusterJobs, rank: int) -> dict[str, Any]:
    attempt = str(jobs.status(NAME)["attempt"])
    pods = [pod for pod in jobs.pods(NAME) if pod["metadata"]["labels"]["imagetrain.dev/attempt"] == attempt]
    return pods[rank]


def uids(jobs: cluster_jobs.ClusterJobs) -> list[str]:
    return [pod["metadata"]["uid"] for pod in jobs.pods(NAME)]


@pytest.mark.timeout(240)  # TensorFlow starts twice, for up to 30 s each time on two cores
@pytest.mark.parametrize("rank", [1, 0], ids=["worker", "chief"])
def test_evicted_pod_has_the_group_save_first(trained: cluster_jobs.ClusterJobs, rank: int) -> None:
    before = wait_for_checkpoint(trained)
    name = pod_of_rank(trained, rank)["metadata"]["name"]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": trained.namespace},
    }
    path = f"/api/v1/namespaces/{trained.namespace}/pods/{name}/eviction"
    trained.cluster.kubectl("create", f"--raw={path}", "--filename=-", stdin=json.dumps(eviction))
    ended = wait_for_next_attempt(trained, before)
    assert (ended["reason"], ended["rank"]) == ("Evicted", rank)
    assert_nothing_lost(trained, ended, before["progress"]["step"])


@pytest.fixture
def open_nodes(cluster: cluster_module.Cluster) -> collections.abc.Iterator[cluster_module.Cluster]:
    """Return the cluster, whose nodes a test may close."""
    yield cluster
    for node in ("n1", "n2"):
        cluster.kubectl("uncordon", node)


@pytest.mark.timeout(240)  # TensorFlow starts twice, for up to 30 s each time on two cores
def test_drained_node_has_the_group_save_first_and_move(
    trained: cluster_jobs.ClusterJobs, open_nodes: cluster_module.Cluster
) -> None:
    before = wait_for_checkpoint(trained)
    node = pod_of_rank(trained, 1)["spec"]["nodeName"]
    selector = f"--pod-selector=imagetrain.dev/job={NAME}"
    open_nodes.kubectl("drain", node, selector, "--delete-emptydir-data", "--ignore-daemonsets", "--timeout=90s")
    ended = wait_for_next_attempt(trained, before)
    assert (ended["reason"], ended["rank"]) == ("Evicted", 1)
    assert_nothing_lost(trained, ended, before["progress"]["step"])
    assert node not in {pod["spec"]["nodeName"] for pod in trained.pods(NAME) if pod["status"]["phase"] == "Running"}


def wait_for_recovery_in_place(jobs: cluster_jobs.ClusterJobs, before: Status, pods: list[str]) -> Status:
    """Wait for a further record of a recovery by the same pods, and return it."""
    known = [each["generation"] for each in before.get("recoveries", [])]

    def is_told(status: Status) -> bool:
        return any(each["generation"] not in known for each in status.get("recoveries", []))

    status = jobs.wait(NAME, is_told, seconds=BACK_SECONDS, what="recovery in place")
    assert status["attempt"] == before["attempt"]
    assert uids(jobs) == pods
    recovery: Status = status["recoveries"][-1]
    sys.stdout.write(f"{recovery['message']}\n")
    return recovery


def spread_anew(jobs: cluster_jobs.ClusterJobs) -> Status:
    """Return the status of a group with a worker on each node; after a drain both may be on one."""
    status = wait_for_checkpoint(jobs)
    if len({pod_of_rank(jobs, rank)["spec"]["nodeName"] for rank in (0, 1)}) == 1:
        name = pod_of_rank(jobs, 1)["metadata"]["name"]
        jobs.cluster.kubectl("delete", "pod", name, f"--namespace={jobs.namespace}", "--wait=false")
        wait_for_next_attempt(jobs, status)
        status = wait_for_checkpoint(jobs)
    assert {pod_of_rank(jobs, rank)["spec"]["nodeName"] for rank in (0, 1)} == {"n1", "n2"}
    return status


@pytest.mark.long  # with the group's move it takes more than a minute
@pytest.mark.timeout(300)  # TensorFlow starts up to three times, for up to 30 s each time on two cores
def test_workers_that_were_cut_off_from_each_other_go_on_in_place(trained: cluster_jobs.ClusterJobs) -> None:
    before, pods = spread_anew(trained), uids(trained)
    trained.cluster.partition_node(2)
    try:
        time.sleep(SILENT_SECONDS)  # the fault itself lasts so long
    finally:
        trained.cluster.heal_node(2)
    recovery = wait_for_recovery_in_place(trained, before, pods)
    assert recovery["reason"] in ("Lost", "Frozen", "PeerLost")
    assert recovery["step"] >= recovery["resumedStep"] >= before["progress"]["checkpointStep"]


@pytest.mark.timeout(240)  # TensorFlow may have to start twice, for up to 30 s each time on two cores
def test_frozen_supervisor_is_named_and_the_group_goes_on_in_place(trained: cluster_jobs.ClusterJobs) -> None:
    before, pods = wait_for_checkpoint(trained), uids(trained)
    frozen = pod_of_rank(trained, 1)
    number = int(frozen["spec"]["nodeName"].removeprefix("n"))

    def send(signal: str) -> str:
        words = [sys.executable, "-c", SIGNAL_SUPERVISOR, frozen["metadata"]["uid"], signal]
        return trained.cluster.exec_on_node(number, words).stdout

    assert len(send(STOP).splitlines()) == 1
    try:
        time.sleep(SILENT_SECONDS)  # the fault itself lasts so long
    finally:
        send(CONTINUE)
    recovery = wait_for_recovery_in_place(trained, before, pods)
    assert (recovery["reason"], recovery["rank"]) == ("Frozen", 1)
    assert "silent" in recovery["message"]


@pytest.fixture
def hidden_workers(cluster: cluster_module.Cluster) -> collections.abc.Iterator[collections.abc.Callable[[str], None]]:
    """Return a function that hides the workers from the operator, as a NetworkPolicy does, or shows them again."""
    source, port = network.CLIENT_ADDRESS, str(names.STATUS_PORT)
    rule = ["FORWARD", "--protocol", "tcp", "--dport", port, "--source", source, "--jump", "DROP"]

    def change(action: str) -> None:
        for number in (1, 2):
            cluster.exec_on_node(number, ["iptables", action, *rule], check=action == "--insert")

    yield change
    change("--delete")


@pytest.mark.long  # half a minute until the operator says so, and up to a minute until it asks again
@pytest.mark.timeout(300)  # TensorFlow may have to start first
def test_chief_out_of_the_operators_reach_is_told_and_trains_on(
    trained: cluster_jobs.ClusterJobs, hidden_workers: collections.abc.Callable[[str], None]
) -> None:
    before, pods = wait_for_checkpoint(trained), uids(trained)
    hidden_workers("--insert")
    silent = trained.wait(
        NAME, lambda status: status["reason"] == "ChiefUnreachable", seconds=BACK_SECONDS, what="word of the silence"
    )
    sys.stdout.write(f"{silent['message']}\n")
    assert silent["phase"] == "Training"
    assert f":{names.STATUS_PORT}: no answer within 3 s" in silent["message"]
    assert "ChiefUnreachable" in [event["reason"] for event in trained.events(NAME)]
    hidden_workers("--delete")
    heard = trained.wait(
        NAME, lambda status: status["reason"] == "Training", seconds=BACK_SECONDS, what="word of the progress"
    )
    assert heard["progress"]["step"] > silent["progress"]["step"]
    assert uids(trained) == pods
    assert heard["attempt"] == before["attempt"]


@pytest.fixture
def dead_node(cluster: cluster_module.Cluster) -> collections.abc.Iterator[int]:
    """Return the number of a node that a test may kill."""
    yield 2
    cluster.start_node(2)


@pytest.mark.long  # a dead node shows after 13 s, and the group moves twice
@pytest.mark.timeout(300)  # TensorFlow starts up to three times, for up to 30 s each time on two cores
def test_pods_of_a_dead_node_are_deleted_by_force_where_the_job_asks_for_it(
    trained: cluster_jobs.ClusterJobs, dead_node: int
) -> None:
    before = spread_anew(trained)
    rank = next(rank for rank in (0, 1) if pod_of_rank(trained, rank)["spec"]["nodeName"] == "n2")
    lost = pod_of_rank(trained, rank)["metadata"]
    trained.cluster.kill_node(dead_node)

    def is_gone(_: Status) -> bool:
        return lost["uid"] not in uids(trained)

    trained.wait(NAME, is_gone, seconds=BACK_SECONDS, what="forced deletion")
    assert not trained.cluster.is_node_ready(dead_node)
    told = [each["message"] for each in trained.events(NAME) if each["reason"] == "ForceDeleted"]
    (message,) = [each for each in told if lost["name"] in each]
    assert "node n2" in message
    ended = wait_for_next_attempt(trained, before)
    assert (ended["reason"], ended["rank"]) == ("NodeLost", rank)
