"""A job on the real cluster from `kubectl apply` to models in S3, as its user sees it."""

import hashlib
import json
from typing import Any

import cluster_jobs


def read_columns(jobs: cluster_jobs.ClusterJobs, *arguments: str) -> dict[str, str]:
    """Return what `kubectl get itj` shows of the job, by column."""
    text = jobs.cluster.kubectl("get", "itj", "digits", f"--namespace={jobs.namespace}", *arguments)
    head, row = text.splitlines()
    titles = [title for title in head.split("  ") if title.strip()]
    starts = [head.index(title.strip()) for title in titles]
    ends = [*starts[1:], None]
    return {title.strip(): row[start:end].strip() for title, start, end in zip(titles, starts, ends, strict=True)}


def check_artifacts(jobs: cluster_jobs.ClusterJobs, outputs: dict[str, Any]) -> None:
    """Hold what the status says of each model against the bytes in S3."""
    manifest = json.loads(jobs.read(outputs["manifestUri"]))
    assert {each["format"] for each in outputs["artifacts"]} == {"saved_model", "tflite_float32"}
    for artifact in outputs["artifacts"]:
        (variant,) = (each for each in manifest["variants"] if each["format"] == artifact["format"])
        assert artifact["sizeBytes"] == variant["sizeBytes"]
        if artifact["format"] == "tflite_float32":
            assert artifact["sha256"] == hashlib.sha256(jobs.read(artifact["uri"])).hexdigest()


def test_applied_job_trains_and_publishes(jobs: cluster_jobs.ClusterJobs) -> None:
    job = jobs.build()
    job["spec"]["output"]["formats"] = ["saved_model", "tflite_float32"]
    jobs.apply(job)
    status = jobs.wait_for_phase("digits", "Succeeded", seconds=110)
    check_artifacts(jobs, status["outputs"])
    assert cluster_jobs.condition_of(status, "Published")["status"] == "True"
    shown = read_columns(jobs, "--output=wide")
    assert (shown["PHASE"], shown["READY"], shown["EPOCH"], shown["STEP"]) == ("Succeeded", "2/2", "2/2", "10/10")
    assert float(shown["IMAGES/S"]) > 0
    assert float(shown["ACCURACY"]) == status["progress"]["accuracy"] > 0.3
    assert (shown["REASON"], shown["MODEL URI"]) == ("Completed", status["outputs"]["manifestUri"])
    reasons = [event["reason"] for event in jobs.events("digits")]
    assert (reasons[0], reasons[-1]) == ("Started", "Completed")
    assert len(reasons) <= 3
    described = jobs.cluster.kubectl("describe", "itj", "digits", f"--namespace={jobs.namespace}")
    assert "2 model formats are published at s3://" in described
