"""What users ask of a job on the way: suspend, resume, delete, deadlines, a time to live, the same name again."""

import pytest

import cluster_jobs


@pytest.mark.timeout(240)  # it trains twice, and TensorFlow starts for 30 s each time on two cores
def test_suspended_job_saves_gives_its_pods_back_and_goes_on_where_it_was(jobs: cluster_jobs.ClusterJobs) -> None:
    jobs.apply(jobs.long())
    jobs.wait_for_step("digits", 10)
    jobs.patch("digits", suspend=True)
    status = jobs.wait_for_phase("digits", "Suspended", seconds=60)
    assert status["ready"] == "0/2"
    assert (status["attempts"][-1]["reason"], status.get("restarts", 0)) == ("Suspended", 0)
    jobs.wait_for_pods("digits", 0, seconds=20)
    assert jobs.children("digits") == []
    told = status["progress"]["step"]
    jobs.patch("digits", suspend=False)
    resumed = jobs.wait_for_step("digits", 1)
    assert resumed["progress"]["step"] >= told  # the last thing it did was to save
    assert resumed["runId"] == status["runId"]
    assert cluster_jobs.condition_of(resumed, "Suspended")["status"] == "False"


@pytest.mark.timeout(240)  # it trains until it is deleted and is then made again
def test_deleted_job_saves_a_checkpoint_and_leaves_nothing_and_its_name_is_free(jobs: cluster_jobs.ClusterJobs) -> None:
    jobs.apply(jobs.long())
    status = jobs.wait_for_step("digits", 10)
    before = jobs.checkpoint_steps("digits", status["runId"])
    jobs.delete("digits", wait=True)
    jobs.wait_for_pods("digits", 0, seconds=60)
    assert jobs.children("digits") == []
    assert jobs.cluster.list("services", namespace=jobs.namespace, selector="imagetrain.dev/job=digits") == []
    assert max(jobs.checkpoint_steps("digits", status["runId"])) > max(before, default=0)
    jobs.apply(jobs.build())
    again = jobs.wait_for_phase("digits", "Succeeded", seconds=110)
    assert again["runId"] != status["runId"]
    assert (again["attempt"], again.get("attempts", [])) == (0, [])


def test_job_over_its_deadline_fails_and_is_deleted_when_its_time_to_live_is_over(
    jobs: cluster_jobs.ClusterJobs,
) -> None:
    jobs.apply(jobs.long(activeDeadlineSeconds=6, ttlSecondsAfterFinished=5))
    status = jobs.wait_for_phase("digits", "Failed", seconds=30)
    assert status["reason"] == "DeadlineExceeded"
    assert "spec.activeDeadlineSeconds" in status["message"]
    jobs.wait_for_absence("digits", seconds=30)
    jobs.wait_for_pods("digits", 0, seconds=60)


def test_group_that_is_never_ready_fails_at_its_deadline(jobs: cluster_jobs.ClusterJobs) -> None:
    worker = {"nodeSelector": {"no": "such-node"}}
    jobs.apply(jobs.build(worker=worker, readyDeadlineSeconds=5))
    status = jobs.wait_for_phase("digits", "Failed", seconds=30)
    assert status["reason"] == "NotReadyInTime"
    assert "spec.readyDeadlineSeconds" in status["message"]
    jobs.wait_for_pods("digits", 0, seconds=30)


@pytest.mark.timeout(240)  # two jobs train at once on two cores
def test_two_jobs_at_once_do_not_disturb_each_other(jobs: cluster_jobs.ClusterJobs) -> None:
    for name in ("first", "second"):
        jobs.apply(jobs.build(name, workers=1))
    for name in ("first", "second"):
        status = jobs.wait_for_phase(name, "Succeeded", seconds=200)
        assert f"/{name}/" in status["outputs"]["manifestUri"]


def test_workers_without_gpus_fail_with_a_reason_unless_they_may_use_the_cpu(jobs: cluster_jobs.ClusterJobs) -> None:
    jobs.apply(jobs.build(workers=1, worker={"resources": {"limits": {"nvidia.com/gpu": 1}}}))
    status = jobs.wait_for_phase("digits", "Failed", seconds=100)
    assert status["reason"] == "BadConfig"
    assert "spec.worker.allowCpu" in status["message"]
    assert len(jobs.pods("digits")) == 1  # kept for its log
