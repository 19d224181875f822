"""What befalls a group while it trains, with real pods: it goes on from its newest checkpoint, and says what happened.

But for the first, which follows a job to its end, the tests share one job that trains for minutes, for TensorFlow takes
10 to 30 s to start on two cores. Each of them also runs alone.
"""

import collections.abc
import pathlib
import sys
import time
from typing import Any

import pytest

import cluster_jobs
import operator_processes
from imagetrain_cluster import cluster as cluster_module

NAME = "digits"
EPOCHS = 60  # of the job that is to come to its end: 20 s of training on two cores
BACK_SECONDS = 100  # for a group to train again; TensorFlow starts in 10 s on two idle cores, in 30 s on busy ones

# Kills the child of the supervisor's fork server: the process that trains.
KILL_TRAINING = """
import os, pathlib, signal
stats = {int(path.parent.name): path.read_text() for path in pathlib.Path("/proc").glob("[0-9]*/stat")}
parents = {pid: int(text.rpartition(")")[2].split()[1]) for pid, text in stats.items()}
(training,) = [pid for pid, parent in parents.items() if parents.get(parent) == 1]
os.kill(training, signal.SIGKILL)
"""

Status = dict[str, Any]


@pytest.fixture
def trained(
    jobs_of_module: cluster_jobs.ClusterJobs, operator: operator_processes.OperatorProcess
) -> cluster_jobs.ClusterJobs:
    """Return the jobs of a namespace where one trains and has a checkpoint."""
    if jobs_of_module.get(NAME) is None:
        job = jobs_of_module.long(NAME, worker={"topologySpreadConstraints": cluster_jobs.spread(NAME)})
        job["spec"]["training"]["epochs"] = 5000  # more than any machine does while these tests run
        jobs_of_module.apply(job)
    wait_for_checkpoint(jobs_of_module)
    return jobs_of_module


def wait_for_checkpoint(jobs: cluster_jobs.ClusterJobs) -> Status:
    """Wait until the newest attempt trains and has saved a checkpoint."""
    attempt = jobs.status(NAME).get("attempt", 0)

    def has_saved(status: Status) -> bool:
        if status.get("phase") != "Training" or status["attempt"] != attempt or "progress" not in status:
            return False
        return bool(0 < status["progress"].get("checkpointStep", 0) <= status["progress"]["step"])

    return jobs.wait(NAME, has_saved, seconds=BACK_SECONDS, what="checkpoint")


def wait_for_recovery(jobs: cluster_jobs.ClusterJobs, before: Status, what: str) -> Status:
    """Wait until the next attempt trains past the last one; the step never falls below its checkpoint."""
    began = time.monotonic()
    steps = []

    def is_past(status: Status) -> bool:
        steps.append(status["progress"]["step"])
        return bool(
            status["attempt"] == before["attempt"] + 1
            and status["phase"] == "Training"
            and steps[-1] > before["progress"]["step"]
        )

    status = jobs.wait(NAME, is_past, seconds=BACK_SECONDS, what=f"step past {before['progress']['step']}")
    sys.stdout.write(f"{what}: trains past the former step after {time.monotonic() - began:.1f} s\n")
    assert min(steps) >= before["progress"]["checkpointStep"]
    assert status["runId"] == before["runId"]
    assert jobs.created_pods(NAME)[-4:] == [(n, r) for n in (before["attempt"], status["attempt"]) for r in (0, 1)]
    return status


def delete_pod(jobs: cluster_jobs.ClusterJobs, rank: int) -> None:
    pod = jobs.pods(NAME)[rank]["metadata"]["name"]
    jobs.cluster.kubectl("delete", "pod", pod, f"--namespace={jobs.namespace}", "--wait=false")


@pytest.mark.timeout(240)  # TensorFlow starts twice, for up to 30 s each time on two cores, and the job ends
def test_job_whose_worker_was_deleted_does_every_step(jobs: cluster_jobs.ClusterJobs) -> None:
    training = {"epochs": EPOCHS, "globalBatchSize": 48, "optimizer": {"learningRate": 0.001}, "stepsPerExecution": 2}
    jobs.apply(jobs.build(NAME, training=training, checkpoint={"everySeconds": 2}))
    before = wait_for_checkpoint(jobs)
    delete_pod(jobs, 1)
    status = jobs.wait_for_phase(NAME, "Succeeded", seconds=150)
    assert [(ended["reason"], ended["rank"]) for ended in status["attempts"]] == [("PodDeleted", 1)]
    assert status["progress"]["epochs"] == f"{EPOCHS}/{EPOCHS}"
    assert status["progress"]["step"] == before["progress"]["totalSteps"]
    assert status["outputs"]["manifestUri"].endswith(f"/runs/{before['runId']}/manifest.json")
    assert jobs.created_pods(NAME) == [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.mark.timeout(200)  # TensorFlow starts twice, for up to 30 s each time on two cores
@pytest.mark.parametrize("rank", [1, 0], ids=["worker", "chief"])
def test_group_goes_on_from_its_checkpoint_when_a_pod_is_deleted(trained: cluster_jobs.ClusterJobs, rank: int) -> None:
    before = wait_for_checkpoint(trained)
    delete_pod(trained, rank)
    status = wait_for_recovery(trained, before, f"pod of rank {rank} deleted")
    ended = status["attempts"][-1]
    assert (ended["reason"], ended["rank"]) == ("PodDeleted", rank)
    assert status.get("restarts", 0) == before.get("restarts", 0)  # the job is not to blame


@pytest.mark.timeout(200)  # TensorFlow may have to start twice, for up to 30 s each time on two cores
def test_killed_process_is_recovered_from_in_place_and_told_in_one_event(trained: cluster_jobs.ClusterJobs) -> None:
    before, pods = wait_for_checkpoint(trained), uids(trained)
    known = {each["message"] for each in before.get("recoveries", [])}
    known |= {event["message"] for event in trained.events(NAME) if event["reason"] == "Recovered"}  # of attempts, too
    pod = trained.pods(NAME)[1]["metadata"]["name"]
    trained.cluster.kubectl("exec", pod, f"--namespace={trained.namespace}", "--", sys.executable, "-c", KILL_TRAINING)

    def is_told(status: Status) -> bool:
        told = {event["message"] for event in trained.events(NAME) if event["reason"] == "Recovered"}
        return bool({each["message"] for each in status.get("recoveries", [])} - known) and bool(told - known)

    status = trained.wait(NAME, is_told, seconds=BACK_SECONDS, what="recovery in place")
    recovery = status["recoveries"][-1]
    assert (recovery["attempt"], recovery["reason"], recovery["rank"]) == (before["attempt"], "Killed", 1)
    assert "SIGKILL" in recovery["message"]
    assert f"the group goes on from step {recovery['resumedStep']} in place" in recovery["message"]
    assert recovery["step"] >= recovery["resumedStep"] >= before["progress"]["checkpointStep"]
    assert 0 < recovery["lostSeconds"] < BACK_SECONDS
    # It counts towards maxRestarts: whoever kills a process, the cluster does not tell of it.
    assert (status["attempt"], status["restarts"]) == (before["attempt"], before.get("restarts", 0) + 1)
    assert uids(trained) == pods
    events = [event for event in trained.events(NAME) if event["message"] == recovery["message"]]
    assert [(event["type"], event["reason"]) for event in events] == [("Warning", "Recovered")]


def test_training_goes_on_undisturbed_while_the_api_server_is_away(
    trained: cluster_jobs.ClusterJobs,
    operator: operator_processes.OperatorProcess,
    operator_kubeconfig: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    operator.stop()
    patient = operator_processes.OperatorProcess(  # with the lease that users have
        trained.cluster, tmp_path, operator_kubeconfig, lease_seconds=15
    )
    patient.start()
    try:
        patient.wait_until_serving()
        before, pods = wait_for_checkpoint(trained), uids(trained)
        trained.cluster.restart_api_server(down_seconds=5)
        step = trained.status(NAME)["progress"]["step"]
        trained.wait_for_step(NAME, step + 1, seconds=30)
        assert patient.is_running
        trained.apply(trained.build("another", suspend=True))
        trained.wait_for_phase("another", "Suspended", seconds=20)  # all watches are back
        assert uids(trained) == pods
        status = trained.status(NAME)
        assert (status["attempt"], status.get("restarts", 0)) == (before["attempt"], before.get("restarts", 0))
        assert len(status.get("attempts", [])) == len(before.get("attempts", []))
    finally:
        patient.stop()


def uids(jobs: cluster_jobs.ClusterJobs) -> list[str]:
    return [pod["metadata"]["uid"] for pod in jobs.pods(NAME)]


@pytest.fixture
def mended_node(cluster: cluster_module.Cluster) -> collections.abc.Iterator[int]:
    """Return the number of a node that a test may kill."""
    yield 2
    cluster.start_node(2)


@pytest.mark.timeout(200)  # a dead node shows after 13 s, and TensorFlow starts for up to 30 s on two cores
def test_group_moves_to_another_node_when_one_dies(trained: cluster_jobs.ClusterJobs, mended_node: int) -> None:
    before = wait_for_checkpoint(trained)
    nodes = [pod["spec"]["nodeName"] for pod in trained.pods(NAME)]
    assert sorted(nodes) == ["n1", "n2"]
    trained.cluster.kill_node(mended_node)
    killed_at = time.monotonic()
    status = trained.wait(
        NAME,
        # More than one attempt where a pod is still sent to the node in the moment before it is tainted.
        lambda found: found["attempt"] > before["attempt"] and found["ready"] == "2/2",
        seconds=BACK_SECONDS,
        what="group without the dead node",
    )
    sys.stdout.write(f"node killed: both workers are ready again after {time.monotonic() - killed_at:.1f} s\n")
    ended = next(each for each in status["attempts"] if each["attempt"] == before["attempt"])
    assert (ended["reason"], ended["rank"]) == ("NodeLost", nodes.index("n2"))
    assert "n2" in ended["message"]
    assert status.get("restarts", 0) == before.get("restarts", 0)
    attempt = str(status["attempt"])
    running = [pod for pod in trained.pods(NAME) if pod["metadata"]["labels"]["imagetrain.dev/attempt"] == attempt]
    assert [pod["spec"]["nodeName"] for pod in running] == ["n1", "n1"]
