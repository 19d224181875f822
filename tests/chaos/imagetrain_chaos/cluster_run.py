"""One ImageTrainingJob on the test cluster: its pods, their processes, and every failure that its status told of."""

import time
from collections.abc import Callable
from typing import Any

import cluster_jobs
from imagetrain_chaos import gate, jobs, records, run_processes, runs
from imagetrain_cluster import tools

RECOVERY_SECONDS = 240.0
"""For a group to train again: pods may have to move, and wait for a back-off of a minute."""

_MARK = "IMAGETRAIN_CHAOS_JOB"
_GATE_VOLUME, _GATE_PLACE = "chaos", "/chaos"
_MEMORY_LIMIT = "2Gi"  # a worker takes 0.7 GiB
_PASSED_STEPS = 4  # further ones, of any process: the group trains

Status = dict[str, Any]


def build_job(own: cluster_jobs.ClusterJobs, name: str, *, epochs: int, pace_seconds: float) -> cluster_jobs.Job:
    """Return a job of two workers, a node each, of `epochs` * jobs.STEPS_PER_EPOCH steps behind a gate."""
    job = own.build(
        name,
        model=dict(jobs.MODEL),
        training=jobs.build_training(epochs),
        checkpoint={"everySeconds": 2},
        recovery={"maxRestarts": 10000, "stepTimeoutSeconds": 15, "forceDeleteAfterSeconds": 5},
    )
    worker = job["spec"]["worker"]
    worker["topologySpreadConstraints"] = cluster_jobs.spread(name)
    worker["resources"] = {"limits": {"memory": _MEMORY_LIMIT}}
    worker["volumes"] = [*worker["volumes"], {"name": _GATE_VOLUME, "emptyDir": {}}]
    worker["volumeMounts"] = [*worker["volumeMounts"], {"name": _GATE_VOLUME, "mountPath": _GATE_PLACE}]
    packages = [tools.CHECKOUT / "tests" / folder for folder in ("chaos", "cluster")]
    variables = {
        "PYTHONPATH": ":".join(map(str, packages)),
        gate.ENV_FOLDER: _GATE_PLACE,
        gate.ENV_PACE_SECONDS: str(pace_seconds),
        _MARK: name,
    }
    worker["env"] = [*worker["env"], *({"name": key, "value": value} for key, value in variables.items())]
    return job


class ClusterRun:
    """A job that was applied.

    Args:
        own: the jobs of its namespace.
        name: of it.
    """

    def __init__(self, own: cluster_jobs.ClusterJobs, name: str) -> None:
        self.own = own
        self.name = name
        self._told: dict[tuple[object, ...], records.Record] = {}

    def status(self) -> Status:
        """Return the job's status, and keep what it tells of failures: it forgets the oldest."""
        status = self.own.status(self.name)
        for ended in status.get("attempts", ()):
            self._told["attempt", ended["attempt"]] = _read_record(ended, is_in_place=False)
        for recovery in status.get("recoveries", ()):
            key = ("recovery", recovery["attempt"], recovery["generation"])
            self._told[key] = _read_record(recovery, is_in_place=True)
        return status

    @property
    def step(self) -> int:
        """Newest step that the status tells."""
        return int(self.status().get("progress", {}).get("step", 0))

    def failures(self) -> list[records.Record]:
        """Return every failure that was told of so far, in the order in which they were seen."""
        self.status()
        return list(self._told.values())

    def wait(self, reached: Callable[[Status], Any], what: str, seconds: float = RECOVERY_SECONDS) -> Status:
        """Wait until the status is so, and return it.

        Raises:
            RunFailedError: it takes too long, or the job has failed.
        """
        deadline = time.monotonic() + seconds
        while not reached(status := self.status()):
            if status.get("phase") == "Failed":
                raise runs.RunFailedError(f"the job failed before {what}:\n{self.explain()}")
            if time.monotonic() > deadline:
                raise runs.RunFailedError(f"{what} did not come within {seconds:g} s:\n{self.explain()}")
            time.sleep(cluster_jobs.POLL_SECONDS)
        return status

    def wait_for_step(self, step: int) -> None:
        """Wait until the status tells of a step."""
        self.wait(lambda status: status.get("progress", {}).get("step", 0) >= step, f"step {step}")

    def wait_until_settled(self) -> Status:
        """Wait until both workers train on, and every failure so far is over; return the status then."""
        begun: list[int] = []

        def is_settled(status: Status) -> bool:
            if status.get("phase") == "Succeeded":
                return True
            is_whole = status.get("phase") == "Training" and status.get("ready") == "2/2" and "progress" in status
            if not is_whole or not all(record.is_over for record in self._told.values()):
                begun.clear()
                return False
            begun.append(status["progress"]["step"])
            return bool(begun[-1] >= min(begun) + _PASSED_STEPS)

        return self.wait(is_settled, "a group that trains on")

    def pod(self, rank: int) -> dict[str, Any]:
        """Return the pod of a rank in the newest attempt.

        Raises:
            RunFailedError: it has none.
        """
        attempt = str(self.status().get("attempt", 0))
        for pod in self.own.pods(self.name):
            labels = pod["metadata"]["labels"]
            place = labels["imagetrain.dev/attempt"], labels["batch.kubernetes.io/job-completion-index"]
            if place == (attempt, str(rank)) and "deletionTimestamp" not in pod["metadata"]:
                return pod
        raise runs.RunFailedError(f"rank {rank} must have a pod in attempt {attempt}:\n{self.explain()}")

    def nodes(self) -> list[str]:
        """Return the node of each rank."""
        return [self.pod(rank)["spec"]["nodeName"] for rank in (0, 1)]

    def gate(self, rank: int) -> gate.GateFolder:
        """Return the gate in a rank's pod, as it is reached from here."""
        pod = self.pod(rank)
        number = int(pod["spec"]["nodeName"].removeprefix("n"))
        return gate.GateFolder(self.own.cluster.empty_dir(number, pod["metadata"]["uid"], _GATE_VOLUME))

    def processes(self) -> list[run_processes.RunProcess]:
        """Return every process of the job's pods, on all nodes."""
        return run_processes.find_marked(f"{_MARK}={self.name}")

    def supervisor(self, rank: int) -> run_processes.RunProcess:
        """Return a rank's supervisor."""
        return self._found(run_processes.supervisor_among(self.processes(), rank), f"a supervisor of rank {rank}")

    def training(self, rank: int) -> run_processes.RunProcess:
        """Return a rank's training process."""
        return self._found(run_processes.training_among(self.processes(), rank), f"a training process of rank {rank}")

    def _found(self, process: run_processes.RunProcess | None, what: str) -> run_processes.RunProcess:
        if process is None:
            raise runs.RunFailedError(f"there must be {what}:\n{self.explain()}")
        return process

    def explain(self) -> str:
        """Return what a reader of a failed run needs: the job as kubectl describes it, its pods, their last lines."""
        where = f"--namespace={self.own.namespace}"
        described = self.own.cluster.kubectl("describe", "itj", self.name, where, check=False)
        pods = self.own.cluster.kubectl("get", "pods", "--output=wide", where, check=False)
        return "\n".join([described, pods, self.own.logs(self.name)])

    def delete(self) -> None:
        """Delete the job, and wait until it is gone."""
        self.own.delete(self.name, wait=True)


def _read_record(told: dict[str, Any], *, is_in_place: bool) -> records.Record:
    return records.Record(
        reason=told["reason"],
        rank=told.get("rank"),
        message=told.get("message", ""),
        step=told.get("step"),
        resumed_step=told.get("resumedStep"),
        lost_seconds=told.get("lostSeconds", 0.0),
        is_in_place=is_in_place,
        is_over="lostSeconds" in told,
        dump_uri=told.get("dumpUri"),
    )
