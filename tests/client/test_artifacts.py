import io
import json

import pytest
from rich import console

from imagetrain_api import model_manifest, schema
from imagetrain_client.cli import main
from imagetrain_client.display import artifacts
from imagetrain_trainer.publish import catalog

FOLDER = "published/0123456789abcdef"
DIGEST = "0" * 64


def variant(name, path, **fields):
    return model_manifest.Variant(
        **{
            "format": name,
            "path": f"{FOLDER}/{path}",
            "is_published": True,
            "size_bytes": 2048,
            "accuracy": 0.98,
            "latency_median_ms": 0.25,
            "latency_p95_ms": 0.5,
            **fields,
        }
    )


MANIFEST = model_manifest.ModelManifest(
    job="tiny",
    namespace="vision",
    run_id="20261124-101500-x7k2",
    created_at="2026-11-24T10:20:00Z",
    imagetrain_version="0.1.0",
    architecture="small_cnn",
    input_shape=(8, 8, 1),
    classes=("cat", "dog"),
    dataset={"uri": "s3://data/set/", "digest": "sha256:00"},
    training={"epochs": 2},
    test={"samples": 80, "accuracy": 0.9875, "loss": 0.1},
    variants=(
        variant("tflite_float32", "model_float32.tflite"),
        variant("tflite_dynamic", "x", is_published=False, accuracy_drop=0.02, refusal="It lost [2.00] points."),
        variant("tflite_int8", "model_int8.tflite", is_forced=True, accuracy_drop=0.03, refusal="It lost 3.00 points."),
    ),
    artifacts=(
        model_manifest.Artifact(path=f"{FOLDER}/report.html", size_bytes=10, sha256=DIGEST),
        model_manifest.Artifact(path=f"{FOLDER}/model_int8.tflite", size_bytes=2048, sha256=DIGEST),
    ),
)
LOADED = catalog.LoadedManifest(
    manifest=MANIFEST,
    key="runs/20261124-101500-x7k2/manifest.json",
    uri="s3://models/tiny/runs/20261124-101500-x7k2/manifest.json",
    sha256=DIGEST,
)


def test_the_table_has_a_row_a_format_and_the_reasons_of_refusals():
    stream = io.StringIO()
    artifacts.print_variants(console.Console(file=stream, width=artifacts.PLAIN_WIDTH), LOADED)
    rows = {line.split()[0]: line for line in stream.getvalue().splitlines() if line.strip()}
    assert "98.00%" in rows["tflite_float32"]
    assert "model_float32.tflite" in rows["tflite_float32"]
    assert "tflite_dynamic refused: It lost [2.00] points." in stream.getvalue()
    assert "tflite_int8 published all the same (gate.force): It lost 3.00 points." in stream.getvalue()


def test_the_document_names_what_can_be_fetched():
    document = artifacts.as_document(LOADED)
    found = {each["format"]: (each["status"], each["uri"]) for each in document["variants"]}
    folder = f"s3://models/tiny/runs/20261124-101500-x7k2/{FOLDER}/"
    assert found == {
        "tflite_float32": ("published", f"{folder}model_float32.tflite"),
        "tflite_dynamic": ("refused", None),
        "tflite_int8": ("forced", f"{folder}model_int8.tflite"),
    }
    assert artifacts.folder_uri(LOADED) == folder
    assert json.dumps(document)


@pytest.fixture
def published(tmp_path):
    run = tmp_path / "runs" / MANIFEST.run_id
    run.mkdir(parents=True)
    text = json.dumps(schema.encode(MANIFEST))
    (run / "manifest.json").write_text(text)
    return tmp_path


def test_a_run_is_shown(published, capsys):
    assert main.run_command(["models", "show", str(published), MANIFEST.run_id]) == 0
    output = capsys.readouterr().out
    assert "small_cnn, 8 x 8 x 1, 2 classes" in output
    assert "98.75% of 80 test images (float model)" in output


def test_a_manifest_is_written_as_json(published, capsys):
    assert main.run_command(["models", "show", str(published), MANIFEST.run_id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runId"] == MANIFEST.run_id


def test_an_unknown_run_is_one_line(published, capsys):
    assert main.run_command(["models", "show", str(published), "other"]) == 105
    assert "the run 'other' is unknown or not published yet" in capsys.readouterr().err


def test_nothing_published_is_one_line(tmp_path, capsys):
    assert main.run_command(["models", "show", str(tmp_path)]) == 105
    assert "no run is published there yet" in capsys.readouterr().err
