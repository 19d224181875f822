"""A run on `latest` keeps the version it began with, on a real S3 server."""

import json
import signal

import pytest

LONG = {"epochs": 400, "globalBatchSize": 16}


def stop_after_a_step(imagetrain, *arguments):
    """Run a job until it has trained a step, then ask it to stop; return the finished command."""
    process = imagetrain.start("run", *arguments, "--json")
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "progress" and event["progress"]["step"] >= 1:
            process.send_signal(signal.SIGINT)
            break
    return imagetrain.wait(process)


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
def test_a_resumed_run_reads_its_own_version_though_latest_has_moved(
    imagetrain, write_job, digits, s3_server, s3_bucket
):
    prefix, models = f"s3://{s3_bucket}/digits", s3_server.root / s3_bucket / "models"
    assert imagetrain("data", "pack", digits, f"{prefix}/v1/", "--latest").status == 0
    manifest = write_job(f"{prefix}/latest", f"s3://{s3_bucket}/models/", training=LONG)
    stopped = stop_after_a_step(imagetrain, manifest)
    assert stopped.status == 82, stopped.errors + imagetrain.logs()
    (pin,) = models.glob("runs/*/data.json")
    digest = json.loads(pin.read_text())["digest"]
    used = f"the data set is {prefix}/v1/, version v1, digest {digest}"
    assert imagetrain.logs().count(used) == 2  # both workers

    assert imagetrain("data", "pack", digits, f"{prefix}/v2/", "--seed", "1", "--latest").status == 0
    resumed = stop_after_a_step(imagetrain, manifest, "--resume")
    assert resumed.status == 82, resumed.errors + imagetrain.logs()
    assert imagetrain.logs().count(used) == 4
    assert "version v2" not in imagetrain.logs()


def test_the_published_manifest_names_version_and_digest(imagetrain, write_job, digits, tmp_path):
    assert imagetrain("data", "pack", digits, tmp_path / "digits" / "v7", "--latest").status == 0
    output = f"file://{tmp_path}/models/"
    manifest = write_job(f"file://{tmp_path}/digits/latest", output, workers=1)
    run = imagetrain("run", manifest)
    assert run.status == 0, run.errors + imagetrain.logs()
    shown = json.loads(imagetrain("models", "show", output, "--json").output)["dataset"]
    described = json.loads(imagetrain("data", "info", tmp_path / "digits" / "v7", "--json").output)
    assert shown["version"] == "v7"
    assert shown["digest"] == described["digest"]
    assert shown["uri"] == f"file://{tmp_path}/digits/v7/"


def test_a_job_on_latest_without_a_pointer_is_refused_before_any_worker_starts(imagetrain, write_job, tmp_path):
    run = imagetrain("run", write_job(f"file://{tmp_path}/digits/latest", f"file://{tmp_path}/models/"))
    assert run.status == 105
    assert "no version below" in run.errors
    assert not (tmp_path / "models" / "runs").exists()
