"""ImageTrainingJobs of a test on the cluster: made, followed and looked into as a user does with kubectl."""

import collections.abc
import json
import sys
import time
from typing import Any

from mypy_boto3_s3 import S3Client

from imagetrain_cluster import cluster as cluster_module
from imagetrain_cluster import host_files

SECRET = "s3-key"
POLL_SECONDS = 0.3

Job = dict[str, Any]
Condition = collections.abc.Callable[[dict[str, Any]], Any]  # of a status


class ClusterJobs:
    """The jobs of one namespace.

    Args:
        cluster: the cluster.
        namespace: a namespace with the claim of `host_files`.
        data_uri: a packed data set on the S3 server in the cluster.
        output_uri: folder for the outputs of this namespace.
        endpoint_url: the S3 server, as pods reach it.
        store: a boto3 client of the same server.
    """

    def __init__(
        self,
        cluster: cluster_module.Cluster,
        namespace: str,
        data_uri: str,
        output_uri: str,
        endpoint_url: str,
        store: S3Client | None,
    ) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self._data_uri = data_uri
        self._output_uri = output_uri
        self._endpoint_url = endpoint_url
        self._store = store

    @classmethod
    def without_storage(cls, cluster: cluster_module.Cluster, namespace: str) -> "ClusterJobs":
        """Return the jobs of a namespace that are not to run."""
        return cls(cluster, namespace, "s3://nowhere/data/", "s3://nowhere/models/", "http://s3.invalid", None)

    def build(self, name: str = "digits", *, worker: dict[str, Any] | None = None, **spec: Any) -> Job:
        """Return a small job of two workers that runs the machine's own Python."""
        return {
            "apiVersion": "imagetrain.dev/v1alpha1",
            "kind": "ImageTrainingJob",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "workers": 2,
                "data": {"uri": self._data_uri},
                "model": {"architecture": "small_cnn", "inputShape": [8, 8, 1], "options": {"width": 8}},
                "training": {"epochs": 2, "globalBatchSize": 48, "optimizer": {"learningRate": 0.005}},
                "output": {
                    "uri": f"{self._output_uri}{name}/",
                    "formats": ["tflite_float32"],
                    "gate": {"force": True},
                },
                "s3": {"endpointUrl": self._endpoint_url, "region": "us-east-1", "credentialsSecret": SECRET},
                "worker": {
                    "image": host_files.IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "env": [{"name": "PATH", "value": f"{sys.prefix}/bin:/usr/bin"}],
                    "volumes": host_files.build_volumes(),
                    "volumeMounts": host_files.build_mounts(),
                    "terminationGracePeriodSeconds": 60,
                    **(worker or {}),
                },
                **spec,
            },
        }

    def long(self, name: str = "digits", **spec: Any) -> Job:
        """Return a job that trains for minutes, for tests that disturb it."""
        training = {"epochs": 400, "globalBatchSize": 48, "optimizer": {"learningRate": 0.001}, "stepsPerExecution": 2}
        return self.build(name, **{"training": training, "checkpoint": {"everySeconds": 2}, **spec})

    def apply(self, job: Job) -> None:
        """Apply a manifest, as a user does."""
        self.cluster.kubectl("apply", "--filename=-", stdin=json.dumps(job))

    def patch(self, name: str, **spec: Any) -> None:
        """Change some settings of a job."""
        document = json.dumps({"spec": spec})
        self.cluster.kubectl(
            "patch", "itj", name, f"--namespace={self.namespace}", "--type=merge", f"--patch={document}"
        )

    def delete(self, name: str, *, wait: bool = False) -> None:
        """Delete a job."""
        self.cluster.kubectl("delete", "itj", name, f"--namespace={self.namespace}", f"--wait={str(wait).lower()}")

    def get(self, name: str) -> Job | None:
        """Return a job."""
        return self.cluster.get("itj", name, namespace=self.namespace)

    def status(self, name: str) -> dict[str, Any]:
        """Return a job's status; empty where there is no job or none yet."""
        return (self.get(name) or {}).get("status") or {}

    def pods(self, name: str) -> list[dict[str, Any]]:
        """Return a job's pods by rank."""
        found = self.cluster.list("pods", namespace=self.namespace, selector=f"imagetrain.dev/job={name}")
        return sorted(found, key=lambda pod: int(pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"]))

    def children(self, name: str) -> list[dict[str, Any]]:
        """Return a job's Jobs."""
        return self.cluster.list("jobs", namespace=self.namespace, selector=f"imagetrain.dev/job={name}")

    def created_pods(self, name: str) -> list[tuple[int, int]]:
        """Return attempt and rank of every pod that was ever created for a job, as the Job controller tells it."""
        told = [
            event["message"].removeprefix("Created pod: ").removeprefix(f"{name}-").split("-")
            for event in self.cluster.list("events", namespace=self.namespace)
            if event["reason"] == "SuccessfulCreate" and event["message"].startswith(f"Created pod: {name}-")
        ]
        return sorted((int(attempt), int(rank)) for attempt, rank, _ in told)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of a job, oldest first."""
        found = self.cluster.list("events", namespace=self.namespace)
        mine = [
            event
            for event in found
            if event["involvedObject"].get("name") == name and event["involvedObject"]["kind"] == "ImageTrainingJob"
        ]
        return sorted(mine, key=lambda event: event["metadata"]["creationTimestamp"])

    def logs(self, name: str) -> str:
        """Return the end of the log of each pod, for a failed test's message."""
        arguments = [f"--namespace={self.namespace}", f"--selector=imagetrain.dev/job={name}", "--tail=20", "--prefix"]
        return self.cluster.kubectl("logs", *arguments, check=False)

    def wait(
        self,
        name: str,
        condition: Condition,
        *,
        seconds: float,
        what: str,
    ) -> dict[str, Any]:
        """Wait until a job's status fulfils a condition; return that status."""
        deadline = time.monotonic() + seconds
        while True:
            status = self.status(name)
            if condition(status):
                return status
            if time.monotonic() > deadline:
                short = {key: value for key, value in status.items() if key != "conditions"}
                raise AssertionError(f"no {what} within {seconds} s: {json.dumps(short, indent=1)}\n{self.logs(name)}")
            time.sleep(POLL_SECONDS)

    def wait_for_pods(self, name: str, count: int, *, seconds: float) -> None:
        """Wait until a job has so many pods."""
        deadline = time.monotonic() + seconds
        while len(pods := self.pods(name)) != count:
            assert time.monotonic() < deadline, [(pod["metadata"]["name"], pod["status"]["phase"]) for pod in pods]
            time.sleep(POLL_SECONDS)

    def wait_for_ends(self, name: str, *, seconds: float) -> None:
        """Wait until every pod of a job has ended, well or not."""
        deadline = time.monotonic() + seconds
        while any(pod["status"]["phase"] not in ("Succeeded", "Failed") for pod in self.pods(name)):
            assert time.monotonic() < deadline, self.logs(name)
            time.sleep(POLL_SECONDS)

    def wait_for_absence(self, name: str, *, seconds: float) -> None:
        """Wait until a job is gone."""
        deadline = time.monotonic() + seconds
        while self.get(name) is not None:
            assert time.monotonic() < deadline, f"{name} is still there"
            time.sleep(POLL_SECONDS)

    def checkpoint_steps(self, name: str, run_id: str) -> list[int]:
        """Return the steps of the complete checkpoints that a run has in S3."""
        folder = f"{self._output_uri}{name}/runs/{run_id}/checkpoints/".removeprefix("s3://")
        bucket, _, prefix = folder.partition("/")
        assert self._store is not None
        pages = self._store.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [found["Key"].removeprefix(prefix) for page in pages for found in page.get("Contents", [])]
        return sorted({int(digits) for key in keys if key.endswith("manifest.json") and (digits := _digits(key))})

    def read(self, uri: str) -> bytes:
        """Return the bytes of an object that a run has left in S3."""
        assert self._store is not None
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return self._store.get_object(Bucket=bucket, Key=key)["Body"].read()

    def read_document(self, uri: str) -> dict[str, Any]:
        """Return a JSON document that a run has left in S3."""
        assert self._store is not None
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        document: dict[str, Any] = json.load(self._store.get_object(Bucket=bucket, Key=key)["Body"])
        return document

    def wait_for_phase(self, name: str, *phases: str, seconds: float) -> dict[str, Any]:
        """Wait until a job is in one of these phases; fail at once where it ends otherwise."""
        ended = {"Succeeded", "Failed"} - set(phases)
        status = self.wait(
            name,
            lambda found: found.get("phase") in {*phases, *ended},
            seconds=seconds,
            what=f"phase {' or '.join(phases)} of {name}",
        )
        assert status["phase"] in phases, f"{status}\n{self.logs(name)}"
        return status

    def wait_for_step(self, name: str, step: int, *, seconds: float = 100) -> dict[str, Any]:
        """Wait until a job is training and past a step."""
        return self.wait(
            name,
            lambda found: found.get("phase") == "Training" and found.get("progress", {}).get("step", 0) >= step,
            seconds=seconds,
            what=f"step {step} of {name}",
        )


def _digits(text: str) -> str:
    return "".join(character for character in text.partition("/")[0] if character.isdigit())


def spread(name: str) -> list[dict[str, Any]]:
    """Return the `topologySpreadConstraints` of a job with a worker on each node; a dead node does not count.

    Each node of the test cluster has room for two workers, so that they share one when the other is gone.
    """
    return [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "DoNotSchedule",
            "nodeTaintsPolicy": "Honor",
            "labelSelector": {"matchLabels": {"imagetrain.dev/job": name}},
        }
    ]


def condition_of(status: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return a condition of a status; empty where it is not there."""
    return next((each for each in status.get("conditions", []) if each["type"] == kind), {})
