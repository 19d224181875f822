"""Jobs that cannot start: each says why and what to do, and goes on by itself once the cause is gone."""

import base64
import json

import cluster_jobs
import operator_processes
from imagetrain_cluster import cluster as cluster_module


def reason_is(reason: str) -> cluster_jobs.Condition:
    return lambda status: status.get("reason") == reason


def test_image_that_cannot_be_pulled_is_named_and_fails_the_job_in_time(jobs: cluster_jobs.ClusterJobs) -> None:
    image = "imagetrain.invalid/no-such-trainer:1"
    jobs.apply(jobs.build(worker={"image": image}, recovery={"startTimeoutSeconds": 10}))
    status = jobs.wait("digits", reason_is("ImagePullFailed"), seconds=30, what="ImagePullFailed")
    assert status["phase"] == "Pending"
    assert image in status["message"]
    assert "spec.worker.image" in status["message"]
    assert cluster_jobs.condition_of(status, "WorkersReady")["reason"] == "ImagePullFailed"
    ended = jobs.wait_for_phase("digits", "Failed", seconds=40)
    assert ended["reason"] == "ImagePullFailed"
    assert "spec.recovery.startTimeoutSeconds" in ended["message"]
    jobs.wait_for_pods("digits", 0, seconds=30)  # the GPUs are given back


def test_missing_secret_is_named_and_a_wrong_key_in_it_too(jobs: cluster_jobs.ClusterJobs) -> None:
    job = jobs.build()
    job["spec"]["s3"]["credentialsSecret"] = "another-key"
    jobs.apply(job)
    status = jobs.wait("digits", reason_is("SecretMissing"), seconds=30, what="SecretMissing")
    assert status["phase"] == "Pending"
    assert "another-key" in status["message"]
    data = {key: base64.b64encode(b"x").decode() for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    metadata = {"name": "another-key", "namespace": jobs.namespace}
    jobs.cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
    ended = jobs.wait_for_phase("digits", "Failed", seconds=100)  # it starts, and no more than that
    assert ended["reason"] == "AccessDenied"
    assert "s3://e2e/" in ended["message"]
    assert (ended["attempt"], ended.get("restarts", 0)) == (0, 0)


def test_job_without_room_starts_when_capacity_is_added(
    cluster: cluster_module.Cluster, jobs: cluster_jobs.ClusterJobs
) -> None:
    worker = {"resources": {"limits": {"nvidia.com/gpu": 3}}, "allowCpu": True}
    jobs.apply(jobs.build(worker=worker))
    status = jobs.wait("digits", reason_is("Unschedulable"), seconds=30, what="Unschedulable")
    assert status["phase"] == "Pending"
    assert "nvidia.com/gpu" in status["message"]
    try:
        for node in (1, 2):
            cluster.set_gpus(node, 3)
        jobs.wait("digits", lambda found: found.get("ready") == "2/2", seconds=60, what="two ready workers")
        assert {pod["spec"]["nodeName"] for pod in jobs.pods("digits")} == {"n1", "n2"}
    finally:
        for node in (1, 2):
            cluster.set_gpus(node, 1)


def test_denied_quota_is_told_and_the_job_starts_once_it_is_raised(jobs: cluster_jobs.ClusterJobs) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "gpus", "namespace": jobs.namespace},
        "spec": {"hard": {"requests.nvidia.com/gpu": "0"}},
    }
    jobs.cluster.apply(quota)
    worker = {"resources": {"limits": {"nvidia.com/gpu": 1}}, "allowCpu": True}
    jobs.apply(jobs.build(worker=worker))
    status = jobs.wait("digits", reason_is("QuotaExceeded"), seconds=30, what="QuotaExceeded")
    assert status["phase"] == "Pending"
    assert "gpus" in status["message"]
    assert [event["reason"] for event in jobs.events("digits")].count("QuotaExceeded") == 1
    quota["spec"] = {"hard": {"requests.nvidia.com/gpu": "2"}}
    jobs.cluster.apply(quota)
    jobs.wait("digits", lambda found: found.get("ready") == "2/2", seconds=90, what="two ready workers")


def test_pods_that_the_namespace_forbids_are_told(jobs: cluster_jobs.ClusterJobs) -> None:
    jobs.apply(jobs.build(worker={"podTemplate": {"spec": {"hostNetwork": True}}}))
    status = jobs.wait("digits", reason_is("PodsRefused"), seconds=30, what="PodsRefused")
    assert "hostNetwork" in status["message"]
    assert "restricted" in status["message"]


def test_pod_template_that_no_pod_can_have_fails_the_job_at_once(jobs: cluster_jobs.ClusterJobs) -> None:
    jobs.apply(jobs.build(worker={"podTemplate": {"spec": {"priorty": 1}}}))
    status = jobs.wait_for_phase("digits", "Failed", seconds=20)
    assert "priorty" in status["message"]
    assert jobs.children("digits") == []


def test_rejected_manifest_names_the_field(jobs: cluster_jobs.ClusterJobs) -> None:
    job = jobs.build()
    job["spec"]["training"]["globalBatchSize"] = 1
    job["spec"]["wrkers"] = 2
    said = operator_processes.refused_kubectl(jobs.cluster, "apply", "--filename=-", stdin=json.dumps(job))
    assert "wrkers" in said
    del job["spec"]["wrkers"]
    said = operator_processes.refused_kubectl(jobs.cluster, "apply", "--filename=-", stdin=json.dumps(job))
    assert "spec.training.globalBatchSize" in said
    assert jobs.get("digits") is None
