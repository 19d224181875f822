"""A job on the real cluster from `kubectl apply` to models in S3."""

import cluster_jobs


def test_applied_job_trains_and_publishes(jobs: cluster_jobs.ClusterJobs) -> None:
    jobs.apply(jobs.build())
    status = jobs.wait_for_phase("digits", "Succeeded", seconds=110)
    assert status["ready"] == "2/2"
    assert status["progress"]["epochs"] == "2/2"
    assert status["progress"]["accuracy"] > 0.3
    assert status["outputs"]["manifestUri"].endswith(f"/runs/{status['runId']}/manifest.json")
    assert cluster_jobs.condition_of(status, "Published")["status"] == "True"
