import json
from typing import Any

import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.training import checkpoint_manifest

SHARD = checkpoint_manifest.Shard(key="state-00000-of-00001.safetensors", size_bytes=5, sha256="ab")
MANIFEST = checkpoint_manifest.Manifest(
    place=checkpoint_manifest.Place(12, 3),
    job="photos",
    workers=2,
    shards=(SHARD,),
    host={"history": []},
    created_at=1.5,
)


def decoded(**changes: Any) -> checkpoint_manifest.Manifest:
    document = {**json.loads(MANIFEST.encode()), **changes}
    return checkpoint_manifest.decode_manifest(json.dumps(document).encode(), "s3://b/manifest.json")


def test_manifest_survives_the_way_through_json() -> None:
    assert decoded() == MANIFEST


def test_version_one_is_still_read() -> None:
    document = {"schemaVersion": 1, "job": "photos", "step": 7, "sizeBytes": 5, "sha256": "ab", "host": {}}
    manifest = checkpoint_manifest.decode_manifest(json.dumps(document).encode(), "u")
    assert manifest.place == checkpoint_manifest.Place(7, 0)
    assert manifest.place.folder == "step-000000000007"
    assert manifest.shards == (checkpoint_manifest.Shard(key="state.safetensors", size_bytes=5, sha256="ab"),)


def test_newer_version_that_says_so_is_read_and_its_new_keys_are_passed_over() -> None:
    assert decoded(schemaVersion=3, readableBy=2, compression={"name": "none"}) == MANIFEST


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"schemaVersion": 3, "readableBy": 3}, "has schemaVersion 3, readable by 3; this version reads up to 2"),
        ({"readableBy": 0}, "reads up to 2"),
        ({"shards": []}, "names no state"),
        ({"shards": [{"key": "../x", "sizeBytes": 1, "sha256": ""}]}, "a shard must be named by"),
        ({"shards": [{"key": ".", "sizeBytes": 1, "sha256": ""}]}, "a shard must be named by"),
        ({"shards": None}, "is no checkpoint manifest"),
        ({"step": "many"}, "is no checkpoint manifest"),
    ],
)
def test_manifest_that_cannot_be_read_is_named(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(errors.DataCorruptError, match=problem) as caught:
        decoded(**changes)
    assert "s3://b/manifest.json" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff"])
def test_what_is_no_document_is_named(data: bytes) -> None:
    with pytest.raises(errors.DataCorruptError, match="is no checkpoint manifest"):
        checkpoint_manifest.decode_manifest(data, "u")


def test_newest_checkpoint_is_that_of_the_highest_step_then_of_the_highest_generation() -> None:
    places = [checkpoint_manifest.Place(*pair) for pair in ((20, 1), (10, 9), (20, 3), (20, 0))]
    assert max(places) == checkpoint_manifest.Place(20, 3)


@pytest.mark.parametrize("folder", ["step-000000000020", "step-000000000020/g000003"])
def test_place_is_found_from_its_folder(folder: str) -> None:
    place = checkpoint_manifest.parse_place(folder)
    assert place is not None
    assert place.folder == folder


@pytest.mark.parametrize("folder", ["", "step-20", "step-000000000020/g3", "step-000000000020/g000003/x", "other"])
def test_other_folders_are_no_checkpoints(folder: str) -> None:
    assert checkpoint_manifest.parse_place(folder) is None
