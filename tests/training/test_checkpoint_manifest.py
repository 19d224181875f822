import hashlib
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


URI = "s3://b/manifest.json"


def decoded(**changes: Any) -> checkpoint_manifest.Manifest:
    """Decode the manifest with other values and the digest that a writer of them would give it."""
    document = {**json.loads(MANIFEST.encode()), **changes}
    del document["digest"]
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    return checkpoint_manifest.decode_manifest(json.dumps({**document, "digest": digest}).encode(), URI)


def test_manifest_survives_the_way_through_json() -> None:
    assert decoded() == MANIFEST


def test_version_one_is_still_read() -> None:
    document = {"schemaVersion": 1, "job": "photos", "step": 7, "sizeBytes": 5, "sha256": "ab", "host": {}}
    manifest = checkpoint_manifest.decode_manifest(json.dumps(document).encode(), "u")
    assert manifest.place == checkpoint_manifest.Place(7, 0)
    assert manifest.place.folder == "step-000000000007"
    assert manifest.shards == (checkpoint_manifest.Shard(key="state.safetensors", size_bytes=5, sha256="ab"),)


def test_version_two_without_a_digest_is_still_read() -> None:
    document = {**json.loads(MANIFEST.encode()), "schemaVersion": 2, "readableBy": 2}
    del document["digest"]
    assert checkpoint_manifest.decode_manifest(json.dumps(document).encode(), URI) == MANIFEST


def test_newer_version_that_says_so_is_read_and_its_new_keys_are_passed_over() -> None:
    assert decoded(schemaVersion=4, readableBy=2, compression={"name": "none"}) == MANIFEST


def test_manifest_can_be_read_by_programs_of_version_two() -> None:
    assert json.loads(MANIFEST.encode())["readableBy"] == 2


@pytest.mark.parametrize("bit", range(8))
def test_every_flipped_bit_is_found_or_changes_nothing(bit: int) -> None:
    whole = MANIFEST.encode()
    for index in range(len(whole)):
        damaged = bytearray(whole)
        damaged[index] ^= 1 << bit
        try:
            read = checkpoint_manifest.decode_manifest(bytes(damaged), URI)
        except errors.DataCorruptError:
            continue
        assert read == MANIFEST  # such as a space that became a tab


@pytest.mark.parametrize("size", [1, 100, -1])
def test_manifest_that_was_cut_off_is_found(size: int) -> None:
    with pytest.raises(errors.DataCorruptError, match="is no checkpoint manifest"):
        checkpoint_manifest.decode_manifest(MANIFEST.encode()[:size], URI)


def test_manifest_that_lost_its_digest_is_found() -> None:
    document = json.loads(MANIFEST.encode())
    del document["digest"]
    with pytest.raises(errors.DataCorruptError, match="'digest'"):
        checkpoint_manifest.decode_manifest(json.dumps(document).encode(), URI)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"schemaVersion": 4, "readableBy": 4}, "has schemaVersion 4, readable by 4; this version reads up to 3"),
        ({"readableBy": 0}, "reads up to 3"),
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
