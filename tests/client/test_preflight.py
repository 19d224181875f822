import pytest

import jobs
from imagetrain_client.executor import preflight
from imagetrain_trainer import errors


@pytest.fixture
def job(tmp_path):
    return jobs.build_job(tmp_path)


@pytest.fixture
def output(job, tmp_path):
    def open_with(*keys):
        for key in keys:
            path = tmp_path / "out" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text('{"job": "another"}' if "another" in key else '{"job": "tiny"}')
        return preflight.open_store(job.spec.output.uri, job.spec.s3)

    return open_with


def checkpoint(run):
    return f"runs/{run}/checkpoints/step-000000000005/manifest.json"


def test_a_job_without_its_data_set_is_refused(job, tmp_path):
    with pytest.raises(errors.ObjectNotFoundError, match="imagetrain data pack SOURCE file://"):
        preflight.check_dataset(job)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset.json").write_text("{}")
    preflight.check_dataset(job)


def test_the_newest_unfinished_run_with_a_checkpoint_is_resumed(job, output):
    store = output(
        checkpoint("20261101-000000-aaaa"),
        checkpoint("20261102-000000-bbbb"),
        checkpoint("20261103-000000-cccc"),
        "runs/20261103-000000-cccc/manifest.json",  # finished
        "runs/20261104-000000-dddd/checkpoints/step-000000000005/state.safetensors",  # not complete
    )
    assert preflight.find_run_to_resume(job, store) == "20261102-000000-bbbb"


def test_a_run_of_another_job_is_passed_over_and_refused(job, output):
    store = output(checkpoint("20261101-000000-aaaa"), checkpoint("20261102-000000-another"))
    assert preflight.find_run_to_resume(job, store) == "20261101-000000-aaaa"
    with pytest.raises(errors.ConfigError, match="20261102-000000-another is one of 'another'"):
        preflight.check_resumable(job, store, "20261102-000000-another")


def test_nothing_to_resume_is_an_error(job, output):
    with pytest.raises(errors.ConfigError, match="Run the job without --resume"):
        preflight.find_run_to_resume(job, output())


def test_a_named_run_needs_a_checkpoint_or_an_end(job, output):
    store = output(checkpoint("a"), "runs/b/manifest.json")
    preflight.check_resumable(job, store, "a")
    preflight.check_resumable(job, store, "b")
    with pytest.raises(errors.ConfigError, match="runs/c has none"):
        preflight.check_resumable(job, store, "c")


def test_settings_that_only_kubernetes_heeds_are_named(tmp_path):
    assert preflight.find_kubernetes_settings(jobs.build_job(tmp_path)) == ()
    resources = {"limits": {"nvidia.com/gpu": 1}}
    job = jobs.build_job(
        tmp_path,
        activeDeadlineSeconds=60,
        worker={"resources": resources, "allowCpu": True, "nodeSelector": {"gpu": "h100"}},
    )
    assert preflight.find_kubernetes_settings(job) == ("spec.activeDeadlineSeconds", "spec.worker.nodeSelector")
