import pytest

from imagetrain_api import names
from imagetrain_trainer import errors
from imagetrain_trainer.publish import catalog, download, publisher
from publish_cases import build_draft, build_variant


@pytest.fixture
def loaded(output, files):
    return publisher.publish_run(output, build_draft(), files).loaded


def tree(folder):
    return {each.relative_to(folder).as_posix(): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def test_all_that_was_published_arrives_with_the_manifest(output, loaded, files, tmp_path):
    steps = []
    folder = download.download(output, loaded, tmp_path / "a" / "model", on_progress=lambda *step: steps.append(step))
    assert tree(folder) == {**tree(files), "manifest.json": output.get(loaded.key)}
    assert steps[-1][1] == steps[-1][2] == sum(each.size_bytes for each in loaded.manifest.artifacts)
    assert [each.name for each in folder.parent.iterdir()] == ["model"]  # no partial folder is left
    assert folder.stat().st_mode & 0o777 == 0o755


def test_one_format_arrives_without_the_others(output, loaded, tmp_path):
    folder = download.download(output, loaded, tmp_path / "model", ["tflite_int8"])
    assert sorted(tree(folder)) == [
        "history.json", "labels.txt", "manifest.json", "model_card.md", "model_int8.tflite", "report.html",
    ]  # fmt: skip


def test_an_empty_folder_is_filled(file_output, files, tmp_path):
    loaded = publisher.publish_run(file_output, build_draft(), files).loaded
    (tmp_path / "model").mkdir()
    assert (download.download(file_output, loaded, tmp_path / "model") / "labels.txt").exists()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda output, key: output.put(key, b"x" * 500), "must have 500 bytes with SHA-256"),
        (lambda output, key: output.put(key, b""), "got 0 bytes"),
        (lambda output, key: output.delete([key]), "must exist: the manifest names it"),
    ],
)
def test_a_changed_artifact_leaves_no_folder(output, loaded, tmp_path, damage, words):
    path = catalog.find_artifact(loaded.manifest, "report.html").path
    damage(output, f"{names.run_prefix('run-a')}/{path}")
    with pytest.raises(errors.DataCorruptError, match=words):
        download.download(output, loaded, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    assert not list(tmp_path.glob(".model*"))


@pytest.mark.parametrize(
    ("model_format", "words"),
    [
        ("tflite_dynamic", "The gate refused it: too slow."),
        ("tflite_float16", "add it to spec.output.formats"),
        ("onnx", "Formats are saved_model, "),
    ],
)
def test_a_format_that_is_not_there_says_why(file_output, files, tmp_path, model_format, words):
    refused = build_variant("tflite_dynamic", "", is_published=False, refusal="too slow.")
    draft = build_draft(variants=(build_variant("saved_model", "saved_model"), refused))
    loaded = publisher.publish_run(file_output, draft, files).loaded
    with pytest.raises(errors.ConfigError, match=f"format must be one of saved_model, got '{model_format}'.*{words}"):
        download.download(file_output, loaded, tmp_path / "model", [model_format])


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_taken_destination_is_refused(file_output, files, tmp_path, is_folder):
    loaded = publisher.publish_run(file_output, build_draft(), files).loaded
    taken = tmp_path / "model"
    if is_folder:
        taken.mkdir()
        (taken / "mine").touch()
    else:
        taken.touch()
    with pytest.raises(errors.ConfigError, match="destination must be absent or an empty folder"):
        download.download(file_output, loaded, taken)
