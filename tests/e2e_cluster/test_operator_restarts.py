"""The operator dies, at any moment: it repeats nothing and loses nothing."""

import collections
import json
import time
from typing import Any

import pytest

import cluster_jobs
import operator_processes
from imagetrain_api import names

NAME = "digits"


class Restarts:
    """Kills the operator in a phase of the job and starts it again."""

    def __init__(self, jobs: cluster_jobs.ClusterJobs, operator: operator_processes.OperatorProcess) -> None:
        self._jobs = jobs
        self._operator = operator

    def restart_in(self, phase: str, *, seconds: float) -> dict[str, Any]:
        """Wait for a phase, kill the operator, and start it again; return the status that it left."""
        self._jobs.wait_for_phase(NAME, phase, seconds=seconds)
        self._operator.kill()
        status = self._jobs.status(NAME)
        assert status["phase"] == phase
        self._operator.start()
        return status

    def restart_while_publishing(self, *, seconds: float) -> None:
        """Wait until the chief says that it publishes, which may be over before the status tells; kill and start."""
        deadline = time.monotonic() + seconds
        while self._phase_of_chief() != "publishing":
            assert time.monotonic() < deadline, self._jobs.logs(NAME)
            time.sleep(0.1)
        self._operator.kill()
        assert not self._jobs.status(NAME).get("outputs")
        self._operator.start()

    def _phase_of_chief(self) -> str:
        address = next((pod["status"].get("podIP") for pod in self._jobs.pods(NAME)), None)
        if not address:
            return ""
        try:
            text = operator_processes.fetch(self._jobs.cluster, address, names.STATUS_PORT, names.PATH_PROGRESS)
        except OSError:
            return ""  # it does not listen yet
        return str(json.loads(text)["phase"])


@pytest.fixture
def restarts(jobs: cluster_jobs.ClusterJobs, operator: operator_processes.OperatorProcess) -> Restarts:
    return Restarts(jobs, operator)


def assert_nothing_twice(jobs: cluster_jobs.ClusterJobs, attempts: int) -> None:
    assert jobs.created_pods(NAME) == [(attempt, rank) for attempt in range(attempts) for rank in (0, 1)]
    said = collections.Counter((event["reason"], event["message"]) for event in jobs.events(NAME))
    assert {text: count for text, count in said.items() if count > 1} == {}


def pod_rank(pod: dict[str, Any]) -> int:
    return int(pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"])


def assert_success(jobs: cluster_jobs.ClusterJobs, status: dict[str, Any]) -> None:
    assert (status["attempt"], status.get("attempts", [])) == (0, [])
    assert status["outputs"]["manifestUri"].endswith(f"/runs/{status['runId']}/manifest.json")
    assert status["progress"]["epochs"] == "2/2"
    assert status["completionTime"] >= status["startTime"]
    assert_nothing_twice(jobs, attempts=1)


@pytest.mark.timeout(240)  # TensorFlow starts, and the operator waits four times for its predecessor's lease
def test_operator_killed_in_each_phase_on_the_way_goes_on_as_if_it_had_lived(
    jobs: cluster_jobs.ClusterJobs, restarts: Restarts
) -> None:
    jobs.apply(jobs.long(NAME))
    restarts.restart_in("Starting", seconds=30)
    restarts.restart_in("Training", seconds=100)
    jobs.patch(NAME, suspend=True)
    restarts.restart_in("Suspending", seconds=30)
    told = jobs.wait_for_phase(NAME, "Suspended", seconds=60)
    assert (told["attempt"], told["ready"]) == (0, "0/2")
    jobs.wait_for_pods(NAME, 0, seconds=20)
    jobs.patch(NAME, suspend=False)
    jobs.wait(NAME, lambda status: status["ready"] == "2/2" and status["attempt"] == 1, seconds=60, what="new group")
    pod = jobs.pods(NAME)[1]["metadata"]["name"]
    jobs.cluster.kubectl("delete", "pod", pod, f"--namespace={jobs.namespace}", "--wait=false")
    restarts.restart_in("Restarting", seconds=60)
    status = jobs.wait(
        NAME, lambda status: status["ready"] == "2/2" and status["attempt"] == 2, seconds=60, what="third group"
    )
    assert [ended["reason"] for ended in status["attempts"]] == ["Suspended", "PodDeleted"]
    assert status.get("restarts", 0) == 0
    assert status["runId"] == told["runId"]
    assert_nothing_twice(jobs, attempts=3)


def test_operator_killed_while_models_are_published_tells_of_them_afterwards(
    jobs: cluster_jobs.ClusterJobs, restarts: Restarts
) -> None:
    job = jobs.build(NAME)
    job["spec"]["output"]["formats"] = ["saved_model", "tflite_float32", "tflite_float16", "tflite_int8"]
    jobs.apply(job)
    restarts.restart_while_publishing(seconds=100)
    assert_success(jobs, jobs.wait_for_phase(NAME, "Succeeded", seconds=60))


def test_job_that_finishes_while_no_operator_is_there_is_told_as_succeeded_afterwards(
    jobs: cluster_jobs.ClusterJobs, operator: operator_processes.OperatorProcess
) -> None:
    jobs.apply(jobs.build(NAME))
    jobs.wait_for_phase(NAME, "Publishing", "Training", seconds=100)
    operator.kill()
    jobs.wait_for_ends(NAME, seconds=60)
    assert jobs.status(NAME)["phase"] != "Succeeded"
    operator.start()
    status = jobs.wait_for_phase(NAME, "Succeeded", seconds=30)
    assert_success(jobs, status)


def test_job_that_failed_for_good_is_never_started_again(
    jobs: cluster_jobs.ClusterJobs, operator: operator_processes.OperatorProcess
) -> None:
    jobs.apply(jobs.build(NAME, data={"uri": "s3://no-such-bucket/data/"}))
    status = jobs.wait_for_phase(NAME, "Failed", seconds=100)
    assert status["reason"] == "NotFound"
    assert "s3://no-such-bucket" in status["message"]
    operator.kill()
    operator.start()
    operator.wait_until_serving()
    jobs.apply(jobs.build("later", suspend=True))
    jobs.wait_for_phase("later", "Suspended", seconds=20)  # it has looked at every job
    assert jobs.status(NAME) == status
    (ended,) = status["attempts"]
    named = next(pod for pod in jobs.pods(NAME) if pod_rank(pod) == ended["rank"])  # kept for its log
    log = jobs.cluster.kubectl("logs", named["metadata"]["name"], f"--namespace={jobs.namespace}")
    assert "no-such-bucket" in log
    assert_nothing_twice(jobs, attempts=1)
