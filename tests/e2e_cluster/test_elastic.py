"""Elastic groups on real nodes: a worker is lost and finds no room, the others train on, and it comes back."""

import collections.abc
import sys
from typing import Any

import pytest

import cluster_jobs
from imagetrain_cluster import cluster as cluster_module

NAME = "digits"
EPOCHS = 1000  # 5,000 steps: 40 s for one worker on two cores; two are slower there
BACK_SECONDS = 120  # TensorFlow starts in 10 s on two idle cores, in 30 s on busy ones
RECOVERY = {"minWorkers": 1, "elasticTimeoutSeconds": 5, "forceDeleteAfterSeconds": 5}

Status = dict[str, Any]


@pytest.fixture
def nodes(cluster: cluster_module.Cluster) -> collections.abc.Iterator[cluster_module.Cluster]:
    """Return the cluster, whose nodes a test may close, and whose second node it may kill."""
    yield cluster
    if not cluster.is_node_ready(2):
        cluster.start_node(2)
    for name in ("n1", "n2"):
        cluster.kubectl("uncordon", name)


def start(jobs: cluster_jobs.ClusterJobs, epochs: int) -> Status:
    """Start an elastic job; return its status once both workers train and it has a checkpoint."""
    training = {"epochs": epochs, "globalBatchSize": 48, "optimizer": {"learningRate": 0.001}, "stepsPerExecution": 2}
    worker = {"topologySpreadConstraints": cluster_jobs.spread(NAME)}
    jobs.apply(jobs.build(NAME, worker=worker, training=training, checkpoint={"everySeconds": 2}, recovery=RECOVERY))
    return wait_for_group(jobs, "2/2", after_step=1)


def wait_for_group(jobs: cluster_jobs.ClusterJobs, ready: str, *, after_step: int) -> Status:
    """Wait until so many workers are ready and train, and the group has saved and is past a step."""

    def is_past(status: Status) -> bool:
        progress = status.get("progress", {})
        is_training = status.get("phase") == "Training" and status["ready"] == ready
        is_of_size = is_training and f"{progress.get('workers')}/2" == ready
        return is_of_size and progress["step"] > after_step and progress.get("checkpointStep", 0) > 0

    return jobs.wait(NAME, is_past, seconds=BACK_SECONDS, what=f"step past {after_step} with {ready} workers")


def wait_for_log(jobs: cluster_jobs.ClusterJobs, pod: str, words: str) -> None:
    where = f"--namespace={jobs.namespace}"
    said = lambda _: words in jobs.cluster.kubectl("logs", pod, where, check=False)  # noqa: E731
    jobs.wait(NAME, said, seconds=BACK_SECONDS, what=f"{words!r} in the log of {pod}")


def pods_of_rank(jobs: cluster_jobs.ClusterJobs, rank: int) -> list[dict[str, Any]]:
    """Return the pods of a rank, oldest first."""
    label = "batch.kubernetes.io/job-completion-index"
    pods = [pod for pod in jobs.pods(NAME) if pod["metadata"]["labels"][label] == str(rank)]
    return sorted(pods, key=lambda pod: pod["metadata"]["creationTimestamp"])


def assert_shrunk(jobs: cluster_jobs.ClusterJobs, status: Status) -> None:
    assert status["reason"] == "Shrunk"
    condition = cluster_jobs.condition_of(status, "WorkersReady")
    assert (condition["status"], condition["reason"]) == ("False", "Shrunk")
    assert cluster_jobs.condition_of(status, "Training")["status"] == "True"
    assert [event["type"] for event in jobs.events(NAME) if event["reason"] == "Shrunk"][-1:] == ["Warning"]


def take_away(jobs: cluster_jobs.ClusterJobs, nodes: cluster_module.Cluster) -> str:
    """Delete the pod of rank 1 where no node takes another; return its name."""
    for node in ("n1", "n2"):
        nodes.kubectl("cordon", node)
    name: str = newest_pod(jobs, 1)["metadata"]["name"]
    nodes.kubectl("delete", "pod", name, f"--namespace={jobs.namespace}", "--wait=false")
    return name


def newest_pod(jobs: cluster_jobs.ClusterJobs, rank: int) -> dict[str, Any]:
    return pods_of_rank(jobs, rank)[-1]


@pytest.mark.long  # the group is seen with two, one and two workers, and to its end
@pytest.mark.timeout(500)
def test_group_shrinks_and_grows_again_in_one_attempt(
    jobs: cluster_jobs.ClusterJobs, nodes: cluster_module.Cluster
) -> None:
    before = start(jobs, EPOCHS)
    lost = take_away(jobs, nodes)
    shrunk = jobs.wait(NAME, lambda found: found["reason"] == "Shrunk", seconds=60, what="smaller group")
    status = wait_for_group(jobs, "1/2", after_step=shrunk["progress"]["step"] + 10)
    assert_shrunk(jobs, status)
    # The Job controller makes the next pod at once or after 10 s.
    jobs.wait(NAME, lambda found: "fits on no node" in found["message"], seconds=60, what="word of the missing room")
    sys.stdout.write(nodes.kubectl("describe", "itj", NAME, f"--namespace={jobs.namespace}"))
    for name in ("n1", "n2"):
        nodes.kubectl("uncordon", name)
    grown = wait_for_group(jobs, "2/2", after_step=status["progress"]["step"])
    assert cluster_jobs.condition_of(grown, "WorkersReady")["status"] == "True"
    assert "Grown" in [event["reason"] for event in jobs.events(NAME)]
    back = newest_pod(jobs, 1)["metadata"]["name"]
    assert back != lost
    wait_for_log(jobs, back, "starts with 2 of 2 worker(s)")
    take_away(jobs, nodes)
    status = jobs.wait_for_phase(NAME, "Succeeded", seconds=300)  # one worker ends the run while the other is away
    sys.stdout.write(nodes.kubectl("describe", "itj", NAME, f"--namespace={jobs.namespace}"))
    assert (status["attempt"], status.get("attempts", []), status.get("restarts", 0)) == (0, [], 0)
    assert status["progress"]["step"] == before["progress"]["totalSteps"]
    assert status["runId"] == before["runId"]
    assert status["outputs"]["manifestUri"].endswith(f"/runs/{before['runId']}/manifest.json")
    assert jobs.created_pods(NAME) == [(0, 0), (0, 1), (0, 1), (0, 1)]


@pytest.mark.long  # a dead node shows after 13 s
@pytest.mark.timeout(400)
def test_worker_of_a_dead_node_comes_back_on_another_in_the_same_attempt(
    jobs: cluster_jobs.ClusterJobs, nodes: cluster_module.Cluster
) -> None:
    nodes.kubectl("cordon", "n2")
    status = start(jobs, 5000)  # both are on the first node
    nodes.kubectl("uncordon", "n2")
    first = newest_pod(jobs, 1)["metadata"]["name"]
    nodes.kubectl("delete", "pod", first, f"--namespace={jobs.namespace}", "--wait=false")
    jobs.wait(NAME, lambda found: found["ready"] == "1/2", seconds=60, what="smaller group")
    status = wait_for_group(jobs, "2/2", after_step=status["progress"]["step"])
    second = newest_pod(jobs, 1)
    assert second["spec"]["nodeName"] == "n2"
    wait_for_log(jobs, second["metadata"]["name"], "starts with 2 of 2 worker(s)")
    nodes.kill_node(2)
    jobs.wait(NAME, lambda found: found["ready"] == "1/2", seconds=60, what="smaller group")
    shrunk = wait_for_group(jobs, "1/2", after_step=status["progress"]["step"])
    assert_shrunk(jobs, shrunk)
    assert not nodes.is_node_ready(2)
    grown = wait_for_group(jobs, "2/2", after_step=shrunk["progress"]["step"])
    third = newest_pod(jobs, 1)
    assert third["spec"]["nodeName"] == "n1"
    wait_for_log(jobs, third["metadata"]["name"], "starts with 2 of 2 worker(s)")
    assert (grown["attempt"], grown.get("restarts", 0)) == (0, 0)
    assert [event["reason"] for event in jobs.events(NAME)].count("ForceDeleted") == 1
    sys.stdout.write(nodes.kubectl("describe", "itj", NAME, f"--namespace={jobs.namespace}"))
