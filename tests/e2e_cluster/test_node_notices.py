"""Notices that a node is about to be taken away, as spot machines give them by a taint: the group saves and moves."""

import collections.abc
import pathlib
import sys
from typing import Any

import pytest

import cluster_jobs
import operator_processes
from imagetrain_cluster import cluster as cluster_module

NAME = "digits"
SPOT = "aws-node-termination-handler/spot-itn"
BACK_SECONDS = 100  # for a group to train again; TensorFlow starts in 10 s on two idle cores, in 30 s on busy ones
RIGHT_SECONDS = 60  # a missing right is asked for every 30 s at last

Status = dict[str, Any]


@pytest.fixture
def noticing(
    cluster: cluster_module.Cluster,
    operator: operator_processes.OperatorProcess,
    operator_kubeconfig: pathlib.Path,
    tmp_path: pathlib.Path,
) -> collections.abc.Iterator[operator_processes.OperatorProcess]:
    """Return an operator that is to read notices, in place of the one that the other tests share."""
    operator.stop()
    process = operator_processes.OperatorProcess(
        cluster, tmp_path, operator_kubeconfig, "--all-namespaces", f"--node-notice-taint={SPOT}"
    )
    process.start()
    process.wait_until_serving()
    yield process
    if process.is_running:
        process.stop()  # it gives the lease back


@pytest.fixture
def rights(cluster: cluster_module.Cluster, tmp_path: pathlib.Path) -> collections.abc.Iterator[list[dict[str, Any]]]:
    """Return what an administrator's own overlay adds to the operator's rights with the component; take it back."""
    found = operator_processes.build_node_notices(cluster, tmp_path)
    assert [each["kind"] for each in found] == ["ClusterRole", "ClusterRoleBinding"]
    yield found
    for each in found:
        cluster.kubectl("delete", each["kind"], each["metadata"]["name"], "--ignore-not-found")


@pytest.fixture
def taint(cluster: cluster_module.Cluster) -> collections.abc.Iterator[collections.abc.Callable[[str], None]]:
    """Return a function that taints a node as a termination handler does; the taints go with the test."""
    tainted: list[str] = []

    def apply(node: str) -> None:
        tainted.append(node)
        cluster.kubectl("taint", "node", node, f"{SPOT}=1:NoSchedule")

    yield apply
    for node in tainted:
        cluster.kubectl("taint", "node", node, f"{SPOT}-")


def start(jobs: cluster_jobs.ClusterJobs, **recovery: Any) -> None:
    """Start a job with a worker on each node, which trains for longer than a test."""
    job = jobs.long(NAME, worker={"topologySpreadConstraints": cluster_jobs.spread(NAME)}, recovery=recovery)
    job["spec"]["training"]["epochs"] = 5000
    jobs.apply(job)


def wait_for_checkpoint(jobs: cluster_jobs.ClusterJobs) -> Status:
    """Wait until both workers train and have saved."""

    def has_saved(status: Status) -> bool:
        progress = status.get("progress", {})
        is_training = status.get("phase") == "Training" and status.get("ready") == "2/2"
        return is_training and 0 < progress.get("checkpointStep", 0) <= progress.get("step", 0)

    return jobs.wait(NAME, has_saved, seconds=BACK_SECONDS, what="checkpoint")


def pod_of_second_worker(jobs: cluster_jobs.ClusterJobs) -> dict[str, Any]:
    pods = jobs.pods(NAME)
    assert {pod["spec"]["nodeName"] for pod in pods} == {"n1", "n2"}
    return pods[1]


def requests_to_save(jobs: cluster_jobs.ClusterJobs) -> list[str]:
    """Return what was told of pods that were asked to save."""
    told = [event for event in jobs.events(NAME) if event["reason"] == "NodeReclaimed"]
    return [event["message"] for event in told if event["message"].startswith("The pod ")]


def build_request(pod: dict[str, Any]) -> str:
    return (
        f"The pod {pod['metadata']['name']} of worker 1 is deleted, and the group saves first: node "
        f"{pod['spec']['nodeName']} is about to be taken away (taint {SPOT})."
    )


@pytest.mark.timeout(300)  # TensorFlow starts twice, for up to 30 s each time on two cores
def test_notice_has_the_group_save_in_time_and_move(
    jobs: cluster_jobs.ClusterJobs,
    noticing: operator_processes.OperatorProcess,
    rights: list[dict[str, Any]],
    taint: collections.abc.Callable[[str], None],
) -> None:
    start(jobs)
    wait_for_checkpoint(jobs)  # without the right jobs are served all the same
    assert [each["message"].startswith("nodes cannot be watched") for each in noticing.lines()].count(True) == 1
    assert operator_processes.fetch(jobs.cluster, "127.0.0.1", noticing.port, "/healthz") == "ok\n"
    assert operator_processes.fetch(jobs.cluster, "127.0.0.1", noticing.port, "/readyz") == "ok\n"
    jobs.cluster.apply(*rights)
    noticing.wait_for("nodes are watched now", seconds=RIGHT_SECONDS)

    told, pod = jobs.status(NAME), pod_of_second_worker(jobs)
    node = pod["spec"]["nodeName"]
    taint(node)

    def has_moved(status: Status) -> bool:
        return status["attempt"] == 1 and "lostSeconds" in status["attempts"][-1]

    status = jobs.wait(NAME, has_moved, seconds=BACK_SECONDS, what="attempt that has caught up")
    (ended,) = status["attempts"]
    sys.stdout.write(jobs.cluster.kubectl("describe", "itj", NAME, f"--namespace={jobs.namespace}"))
    assert (ended["reason"], ended["rank"]) == ("NodeReclaimed", 1)
    assert f"Node {node} is about to be taken away (taint {SPOT})." in ended["message"]
    assert ended["resumedStep"] >= ended["step"] >= told["progress"]["step"]  # nothing is lost
    assert status.get("restarts", 0) == 0
    assert node not in {each["spec"]["nodeName"] for each in jobs.pods(NAME) if each["status"]["phase"] == "Running"}
    assert requests_to_save(jobs) == [build_request(pod)]


@pytest.mark.long  # TensorFlow starts twice
@pytest.mark.timeout(300)
def test_elastic_group_goes_on_without_the_worker_and_takes_it_in_again(
    jobs: cluster_jobs.ClusterJobs,
    rights: list[dict[str, Any]],
    noticing: operator_processes.OperatorProcess,
    taint: collections.abc.Callable[[str], None],
) -> None:
    jobs.cluster.apply(*rights)
    start(jobs, minWorkers=1, elasticTimeoutSeconds=5)
    wait_for_checkpoint(jobs)
    chief, pod = jobs.pods(NAME)[0], pod_of_second_worker(jobs)
    taint(pod["spec"]["nodeName"])
    jobs.wait(NAME, lambda found: found["ready"] == "1/2", seconds=60, what="smaller group")

    back = jobs.wait(NAME, lambda found: found["ready"] == "2/2", seconds=BACK_SECONDS, what="new worker")

    def has_grown(status: Status) -> bool:
        progress = status.get("progress", {})
        is_whole = status["ready"] == "2/2" and progress.get("workers") == 2
        return bool(is_whole and progress["step"] > back["progress"]["step"] + 10)

    status = jobs.wait(NAME, has_grown, seconds=BACK_SECONDS, what="whole group that trains")
    assert (status["attempt"], status.get("attempts", []), status.get("restarts", 0)) == (0, [], 0)
    assert requests_to_save(jobs) == [build_request(pod)]
    running = [each for each in jobs.pods(NAME) if each["status"]["phase"] == "Running"]
    assert {each["spec"]["nodeName"] for each in running} == {chief["spec"]["nodeName"]}
    (shrunk,) = [event["message"] for event in jobs.events(NAME) if event["reason"] == "Shrunk"]
    sys.stdout.write(f"{shrunk}\n")
    assert f"(taint {SPOT})" in shrunk
