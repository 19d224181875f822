import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from imagetrain_api import job, worker_config
from imagetrain_trainer import errors
from imagetrain_trainer.publish import catalog, download
from imagetrain_trainer.storage import store
from publish_cases import CLASSES, check_invariant

TEST = slice(160, 240)


def build_request(tiny, output, work_dir, **changes):
    from imagetrain_trainer.publish import publish  # noqa: PLC0415

    gate, formats = changes.pop("gate", job.GateSettings()), changes.pop("formats", job.FORMATS)
    settings = dataclasses.replace(tiny.spec.output, gate=gate, formats=formats)
    manifest = job.ImageTrainingJob(
        api_version="imagetrain.dev/v1alpha1",
        kind="ImageTrainingJob",
        metadata=job.Metadata(name="tiny"),
        spec=dataclasses.replace(tiny.spec, output=settings),
    )
    endpoint = worker_config.WorkerEndpoint(host="localhost", collective_port=1, status_port=2)
    request = publish.PublishRequest(
        model=tiny.model,
        config=worker_config.WorkerConfig(run_id="run-a", job=manifest, endpoints=(endpoint,)),
        store=output,
        dataset=publish.DatasetFacts(
            uri="s3://datasets/tiny/", digest="sha256:00", class_names=CLASSES, samples={"train": 160, "test": 80}
        ),
        test_batches=lambda: batches(tiny.images[TEST], tiny.labels[TEST]),
        calibration_images=tiny.images[:20],
        training={"epochs": 4, "images_per_second": np.float32(120.5), "training_seconds": 2.0},
        history={"epochs": [{"epoch": 1, "loss": 1.0}], "seconds_by_phase": {"training": 2.0}},
        work_dir=work_dir,
    )
    return dataclasses.replace(request, **changes)


def batches(images, labels, size=33):
    for start in range(0, len(images), size):
        yield images[start : start + size], labels[start : start + size]


@pytest.fixture(scope="module")
def everything(tiny, tmp_path_factory):
    """Publish all five formats once; returns (result, store, progress)."""
    from imagetrain_trainer.publish import publish  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("everything")
    output, progress = store.open_store(f"file://{folder}/output/"), []
    request = build_request(tiny, output, folder / "work", on_progress=lambda *step: progress.append(step))
    return publish.publish_model(request), output, progress


def test_every_format_is_measured_on_the_whole_test_split(everything, tiny):
    manifest = everything[0].manifest
    assert tuple(each.format for each in manifest.variants) == job.FORMATS
    for each in manifest.variants:
        assert each.is_published
        assert each.size_bytes > 1000
        assert each.accuracy > 0.9
        assert each.accuracy * 80 == pytest.approx(round(each.accuracy * 80))
        assert each.agreement > 0.9
        assert 0 < each.latency_median_ms <= each.latency_p95_ms
    assert manifest.test["samples"] == 80
    assert manifest.test["accuracy"] == manifest.variants[0].accuracy
    assert np.sum(manifest.test["confusion_matrix"]) == 80
    assert np.sum(manifest.test["confusion_matrix"], axis=1).tolist() == np.bincount(tiny.labels[TEST]).tolist()
    assert manifest.variants[4].input_type == manifest.variants[4].output_type == "uint8"


def test_what_lies_in_the_store_is_what_the_manifest_names(everything, tmp_path):
    result, output, _ = everything
    assert check_invariant(output) == ["run-a"]
    loaded = catalog.load_manifest(output)
    assert (loaded.manifest, loaded.uri, loaded.sha256) == (result.manifest, result.manifest_uri, result.sha256)
    folder = download.download(output, loaded, tmp_path / "model")
    assert (folder / "labels.txt").read_text().split() == list(CLASSES)
    assert (folder / "report.html").read_bytes() == result.report_path.read_bytes()
    assert "run-a" in (folder / "report.html").read_text()
    assert "# tiny" in (folder / "model_card.md").read_text()
    assert result.report_uri.endswith("/report.html")
    history = json.loads((folder / "history.json").read_text())
    assert history["samples"]
    assert history["environment"]["processor"]
    assert history["epochs"] == [{"epoch": 1, "loss": 1.0}]


def test_the_cards_three_lines_run_for_every_format(everything, tiny, tmp_path, monkeypatch, capsys):
    _, output, _ = everything
    folder = download.download(output, catalog.load_manifest(output), tmp_path / "model")
    Image.fromarray(tiny.images[0, :, :, 0]).save(folder / "image.png")
    monkeypatch.chdir(folder)
    blocks = (folder / "model_card.md").read_text().split("```python\n")[1:]
    assert len(blocks) == len(job.FORMATS)
    for block in blocks:
        dtype = np.uint8 if "uint8" in block else np.float32
        exec(block.split("\n```")[0], {"images": tiny.images[:1].astype(dtype)})  # the card is what is tested
        assert "probabilities" in capsys.readouterr().out, block


def test_figures_of_training_stand_in_the_manifest(everything):
    training = everything[0].manifest.training
    assert (training["workers"], training["epochs"], training["images_per_second"]) == (1, 4, 120.5)
    assert training["settings"]["model"]["architecture"] == "small_cnn"
    assert training["settings"]["training"]["optimizer"]["name"] == "adam"


def test_progress_rises_from_nothing_to_the_last_upload(everything):
    progress = everything[2]
    fractions = [fraction for _, fraction in progress]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0
    assert 0.9 < fractions[-1] <= 1
    details = [detail for detail, _ in progress]
    assert "converting tflite_int8" in details
    assert "measuring accuracy, 80 of 80 test images" in details
    assert "uploading report.html" in details


def test_a_published_run_is_returned_without_any_work(everything, tiny, tmp_path):
    from imagetrain_trainer.publish import publish  # noqa: PLC0415

    result, output, _ = everything
    request = build_request(tiny, output, tmp_path, test_batches=lambda: pytest.fail("read the test split"))
    again = publish.publish_model(request)
    assert (again.manifest, again.was_published_before, again.report_path) == (result.manifest, True, None)
    assert not result.was_published_before
    assert publish.find_published(output, "run-a").sha256 == result.sha256
    assert publish.find_published(output, "run-b") is None


def test_a_refused_format_is_recorded_and_not_uploaded(tiny, output, tmp_path):
    from imagetrain_trainer.publish import publish  # noqa: PLC0415

    gate = job.GateSettings(min_speedup=100.0)
    formats = ("saved_model", "tflite_int8")
    result = publish.publish_model(build_request(tiny, output, tmp_path, gate=gate, formats=formats))
    saved_model, int8 = result.manifest.variants
    assert (saved_model.is_published, int8.is_published) == (True, False)
    assert "speed must be at least 100 times that of tflite_float32" in int8.refusal
    assert int8.path == ""
    assert not any(each.key.endswith(".tflite") for each in output.list())
    assert check_invariant(output) == ["run-a"]
    assert int8.refusal in (result.report_path.read_text())


def test_force_publishes_what_the_gate_refused(tiny, file_output, tmp_path):
    from imagetrain_trainer.publish import publish  # noqa: PLC0415

    gate = job.GateSettings(min_speedup=100.0, force=True)
    result = publish.publish_model(build_request(tiny, file_output, tmp_path, gate=gate, formats=("tflite_int8",)))
    (int8,) = result.manifest.variants
    assert (int8.is_published, int8.is_forced) == (True, True)
    assert int8.refusal
    names = [catalog.local_name(each) for each in result.manifest.artifacts]
    assert sorted(names) == ["history.json", "labels.txt", "model_card.md", "model_int8.tflite", "report.html"]


def test_a_run_without_any_accepted_format_fails_with_its_refusals_written(tiny, file_output, tmp_path):
    from imagetrain_trainer.publish import publish  # noqa: PLC0415

    request = build_request(
        tiny, file_output, tmp_path, gate=job.GateSettings(min_speedup=100.0), formats=("tflite_int8",)
    )
    for attempt in range(2):  # the second finds the manifest
        with pytest.raises(errors.GateRefusedError, match=r"got none in .*tflite_int8: speed must be at least 100"):
            publish.publish_model(request)
        assert check_invariant(file_output) == ["run-a"], attempt
    assert not file_output.exists("latest.json")
    assert catalog.load_manifest(file_output, "run-a").manifest.variants[0].refusal


def test_an_empty_test_split_is_refused(tiny, file_output, tmp_path):
    from imagetrain_trainer.publish import publish  # noqa: PLC0415

    request = build_request(tiny, file_output, tmp_path, test_batches=lambda: iter(()), formats=("saved_model",))
    with pytest.raises(errors.ConfigError, match="test samples, got none"):
        publish.publish_model(request)
    assert list(file_output.list()) == []
