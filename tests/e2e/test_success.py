"""A job from images to published models, with two real workers, on real S3 servers."""

import json
import pathlib
import threading
import urllib.request

import numpy as np
import pytest
from PIL import Image

ALL_FORMATS = ["saved_model", "tflite_float32", "tflite_dynamic", "tflite_float16", "tflite_int8"]


@pytest.fixture
def image(digits, tmp_path):
    path = tmp_path / "three.png"
    with np.load(digits) as arrays:
        Image.fromarray(arrays["x"][3]).save(path)
    return path


def test_a_job_publishes_every_format_and_they_can_be_used(imagetrain, write_job, digits, image, s3_bucket, tmp_path):
    data_uri, output_uri = f"s3://{s3_bucket}/data/", f"s3://{s3_bucket}/models/"
    assert imagetrain("data", "pack", digits, data_uri).status == 0
    manifest = write_job(data_uri, output_uri, output={"uri": output_uri, "gate": {"force": True}})
    run = imagetrain("run", manifest)
    assert run.status == 0, run.errors + imagetrain.logs()
    for model_format in ALL_FORMATS:
        assert model_format in run.output
    assert "epoch 2/2 done" in run.output

    (folder,) = imagetrain.runs.iterdir()
    assert "<svg" in (folder / "report.html").read_text()
    assert not (folder / "scratch").exists()

    (listed,) = json.loads(imagetrain("models", "list", output_uri, "--json").output)
    assert (listed["runId"], listed["isLatest"], listed["formats"]) == (folder.name, True, ALL_FORMATS)
    assert "tflite_int8" in imagetrain("models", "show", output_uri).output

    models = tmp_path / "models"
    assert imagetrain("models", "download", output_uri, "--to", models).status == 0
    assert (models / "labels.txt").read_text().split() == [str(digit) for digit in range(10)]
    for arguments in (
        [output_uri, image, "--format", "tflite_int8"],
        [models / "saved_model", image],
        [models / "model_float32.tflite", image],
    ):
        predicted = imagetrain("predict", *arguments, "--json")
        assert predicted.status == 0, predicted.errors
        (prediction,) = json.loads(predicted.output)
        assert len(prediction["classes"]) == 3


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
def test_no_credential_is_written_anywhere(imagetrain, write_job, digits, s3_server, s3_bucket, tmp_path):
    data_uri, output_uri = f"s3://{s3_bucket}/data/", f"s3://{s3_bucket}/models/"
    packed = imagetrain("data", "pack", digits, data_uri)
    assert packed.status == 0, packed.errors
    process = imagetrain.start("run", write_job(data_uri, output_uri), "--json", IMAGETRAIN_LOG_FORMAT="json")
    served: dict[str, str] = {}
    watcher = threading.Thread(target=_keep_what_is_served, args=(process, imagetrain.runs, served))
    watcher.start()
    run = imagetrain.wait(process)
    watcher.join()
    assert run.status == 0, run.errors + imagetrain.logs()
    assert {event["event"] for event in run.events} >= {"started", "progress", "finished"}
    assert run.events[-1]["testSamples"] == 80

    assert any(path.endswith("/metrics") for path in served)
    written = {str(path): path.read_bytes() for path in _files(tmp_path)}
    stored = {str(path): path.read_bytes() for path in _files(s3_server.root / s3_bucket)}
    assert any(path.endswith("report.html") for path in stored)
    assert any(path.endswith("rank-1.log") for path in written)
    shown = {"output": run.output.encode(), "errors": run.errors.encode()}
    told = {path: text.encode() for path, text in served.items()}
    secret = s3_server.secret_key.encode()
    for place, content in {**written, **stored, **shown, **told}.items():
        assert secret not in content, place


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _keep_what_is_served(process, runs, served):
    """Keep the newest answer of every path of every worker while the command runs."""
    while process.poll() is None:
        for config in runs.glob("*/worker.json"):
            for endpoint in json.loads(config.read_text() or "{}").get("endpoints", []):
                for path in ("metrics", "progress", "healthz"):
                    url = f"http://{endpoint['host']}:{endpoint['statusPort']}/{path}"
                    try:
                        with urllib.request.urlopen(url, timeout=1) as response:
                            served[url] = response.read().decode()
                    except OSError:
                        continue
        threading.Event().wait(0.5)
