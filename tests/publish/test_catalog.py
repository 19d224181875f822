import dataclasses

import pytest

from imagetrain_api import model_manifest, names
from imagetrain_trainer import errors
from imagetrain_trainer.publish import catalog, publisher
from publish_cases import HookedStore, build_draft, build_variant


def publish(output, files, run_id, created_at, **changes):
    return publisher.publish_run(output, build_draft(run_id=run_id, created_at=created_at, **changes), files)


def test_runs_are_listed_newest_first_with_what_a_table_needs(output, files):
    refused = build_variant("tflite_dynamic", "", is_published=False, refusal="too slow.")
    variants = (build_variant("saved_model", "saved_model"), refused)
    publish(output, files, "run-a", "2026-01-14T10:00:00.000000Z", variants=variants)
    publish(output, files, "run-b", "2026-01-15T10:00:00.000000Z")
    output.put(f"{names.run_prefix('run-c')}/checkpoints/1/state", b"still training")
    newest, oldest = catalog.list_runs(output)
    assert newest.run_id == "run-b"
    assert newest.is_latest
    assert newest.formats == ("saved_model", "tflite_int8")
    assert not oldest.is_latest
    assert (oldest.formats, oldest.refused) == (("saved_model",), ("tflite_dynamic",))
    assert oldest.accuracy == 0.9
    assert oldest.size_bytes == sum(each.stat().st_size for each in files.rglob("*") if each.is_file())
    assert oldest.uri == output.uri_of("runs/run-a/manifest.json")
    assert (oldest.job, oldest.architecture, oldest.problem) == ("tiny", "small_cnn", "")


def test_listing_reads_no_checkpoint(file_output, files):
    publish(file_output, files, "run-a", "2026-01-14T10:00:00.000000Z")
    hooked = HookedStore(file_output)
    catalog.list_runs(hooked)
    assert not any(call.startswith("list ") for call in hooked.calls)


def test_nothing_published_is_an_empty_list(output):
    assert catalog.list_runs(output) == []


def test_a_damaged_manifest_is_listed_with_its_problem(output, files):
    publish(output, files, "run-a", "2026-01-14T10:00:00.000000Z")
    output.put(f"{names.run_prefix('run-b')}/manifest.json", b"{")
    good, bad = catalog.list_runs(output)
    assert (good.run_id, good.problem) == ("run-a", "")
    assert bad.run_id == "run-b"
    assert "must be JSON" in bad.problem


def test_a_run_is_loaded_by_its_id_and_by_latest(output, files):
    published = publish(output, files, "run-a", "2026-01-14T10:00:00.000000Z")
    assert catalog.load_manifest(output) == catalog.load_manifest(output, "run-a") == published.loaded


@pytest.mark.parametrize(
    ("run", "words"), [("latest", "no run is published there"), ("run-x", "unknown or not published")]
)
def test_what_is_not_there_says_how_to_find_what_is(output, run, words):
    with pytest.raises(errors.ObjectNotFoundError, match=words):
        catalog.load_manifest(output, run)


def test_a_manifest_changed_after_publishing_is_not_trusted_as_latest(output, files):
    loaded = publish(output, files, "run-a", "2026-01-14T10:00:00.000000Z").loaded
    output.put(loaded.key, output.get(loaded.key).replace(b'"tiny"', b'"evil"'))
    with pytest.raises(errors.DataCorruptError, match=r"must have the SHA-256 that latest\.json names"):
        catalog.load_manifest(output)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff\xfe", b'{"schemaVersion": 1}'])
def test_a_damaged_pointer_is_named(file_output, data):
    file_output.put(names.LATEST_KEY, data)
    with pytest.raises(errors.DataCorruptError, match=r"latest\.json"):
        catalog.load_manifest(file_output)


def test_a_manifest_of_another_run_is_refused(file_output, files):
    loaded = publish(file_output, files, "run-a", "2026-01-14T10:00:00.000000Z").loaded
    file_output.put(f"{names.run_prefix('run-b')}/manifest.json", file_output.get(loaded.key))
    with pytest.raises(errors.DataCorruptError, match="must be of the run 'run-b'"):
        catalog.load_manifest(file_output, "run-b")


@pytest.mark.parametrize(
    "path",
    [
        "published/00/../../../etc/passwd",
        "/etc/passwd",
        "published/00//x",
        "published/00",
        "elsewhere/00/labels.txt",
        "published/00/a\\b",
        "published/00/a\0b",
    ],
)
def test_a_path_that_could_leave_the_folder_is_refused(path):
    artifact = model_manifest.Artifact(path=path, size_bytes=1, sha256="0" * 64)
    with pytest.raises(errors.DataCorruptError, match=r"artifacts\.path must be"):
        catalog.local_name(artifact)


def test_artifacts_are_found_by_their_names(file_output, files):
    manifest = publish(file_output, files, "run-a", "2026-01-14T10:00:00.000000Z").loaded.manifest
    assert catalog.find_artifact(manifest, "saved_model/saved_model.pb").size_bytes == 500
    with pytest.raises(errors.ObjectNotFoundError, match="must have published 'nothing'"):
        catalog.find_artifact(manifest, "nothing")
    assert catalog.published_formats(dataclasses.replace(manifest, variants=())) == ()
