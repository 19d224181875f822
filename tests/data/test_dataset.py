"""dataset.json: rendered, read back, and refused when anything in it is wrong."""

import json

import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset
from imagetrain_trainer.storage import store


def test_what_is_sealed_is_read_back(packed):
    loaded = dataset.load_dataset(packed)
    sealed, document = dataset.seal(loaded)
    assert sealed == loaded
    assert document == packed.get("dataset.json")
    assert dataset.parse(document) == loaded


def test_the_document_is_the_documented_one(packed):
    document = json.loads(packed.get("dataset.json"))
    keys = "schemaVersion name image classes splits statistics split duplicates packing digest"
    assert list(document) == keys.split()
    assert document["image"] == {
        "encoding": "raw",
        "channels": 1,
        "height": 5,
        "width": 4,
        "minHeight": 5,
        "maxHeight": 5,
        "minWidth": 4,
        "maxWidth": 4,
    }
    assert document["classes"] == ["0", "1", "2"]
    assert {name: split["classCounts"] for name, split in document["splits"].items()} == {
        "train": [18, 18, 18],
        "validation": [6, 6, 6],
        "test": [6, 6, 6],
    }
    assert list(document["splits"]["train"]["shards"][0]) == [
        "key",
        "records",
        "sizeBytes",
        "crc32c",
        "sha256",
        "indexKey",
        "indexSizeBytes",
        "indexCrc32c",
    ]
    assert document["split"] == {"seed": 0, "ratios": {"train": 3, "validation": 1, "test": 1}}
    assert list(document["statistics"]) == ["mean", "std", "sizeHistogram"]
    assert document["statistics"]["sizeHistogram"] == [{"upTo": 32, "images": 90}]
    assert document["duplicates"] == {"images": 0, "acrossSplits": 0, "acrossClasses": 0}
    assert document["packing"] == {"encoding": "keep"}


def test_a_data_set_of_an_earlier_version_is_read_and_keeps_its_digest(packed):
    """Version 0.1 wrote none of these keys."""
    document = json.loads(packed.get("dataset.json"))
    for key in ("duplicates", "packing", "digest"):
        del document[key]
    del document["statistics"]["sizeHistogram"]
    document["digest"] = dataset.compute_digest(document)
    loaded = dataset.parse(json.dumps(document).encode())
    assert (loaded.size_histogram, loaded.duplicates, loaded.packing) == ((), None, {})
    assert dataset.seal(loaded)[0].digest == document["digest"]


def test_a_key_of_a_later_writer_is_ignored_but_counts_in_the_digest(packed):
    document = json.loads(packed.get("dataset.json"))
    document["licence"] = "CC0"
    with pytest.raises(errors.DataCorruptError, match="must match its digest"):
        dataset.parse(json.dumps(document).encode())
    del document["digest"]
    document["digest"] = dataset.compute_digest(document)
    assert dataset.parse(json.dumps(document).encode()).name == "numbers"


def test_a_flip_of_any_byte_is_found_or_changes_nothing(packed):
    data = packed.get("dataset.json")
    expected = dataset.parse(data)
    for position in range(0, len(data), 3):
        damaged = bytearray(data)
        damaged[position] ^= 0x01
        try:
            assert dataset.parse(bytes(damaged)) == expected  # white space became other white space
        except errors.DataCorruptError:
            continue


def change(document, path, value):
    *parents, last = path.split(".")
    for key in parents:
        document = document[int(key) if key.isdigit() else key]
    document[last] = value


@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        ("schemaVersion", 2, "must have schemaVersion 1, got '2'"),
        ("image.encoding", "webp", "must have a known image.encoding"),
        ("image.channels", 2, "1 or 3 image.channels"),
        ("image.height", None, "must give image.height and image.width of raw images"),
        ("splits.train.records", 53, "splits.train.records equal to"),
        ("splits.test.classCounts", [6, 6], "splits.test.records equal to"),
        ("splits.test.shards", [], "splits.test.records equal to"),
        ("splits.train.shards.0.key", "../../etc/passwd", "must have relative shard keys"),
        ("splits.train.shards.0.indexKey", "/etc/passwd", "must have relative shard keys"),
        ("classes", None, "must be a data set description"),
        ("splits", {}, "must be a data set description"),
    ],
)
def test_each_rule_is_named(packed, path, value, rule):
    document = json.loads(packed.get("dataset.json"))
    change(document, path, value)
    del document["digest"]
    document["digest"] = dataset.compute_digest(document)
    packed.put("dataset.json", json.dumps(document).encode())
    with pytest.raises(errors.DataCorruptError, match=rule) as e:
        dataset.load_dataset(packed)
    assert packed.uri_of("dataset.json") in str(e.value)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"\xff", b'{"schemaVersion": 1}'])
def test_what_is_no_description_is_corrupt(packed, data):
    packed.put("dataset.json", data)
    with pytest.raises(errors.DataCorruptError, match="must be a data set description"):
        dataset.load_dataset(packed)


def test_a_place_without_a_data_set_says_what_to_do(tmp_path):
    with pytest.raises(errors.ObjectNotFoundError, match=r"holds no packed data set .* pack one there"):
        dataset.load_dataset(store.open_store(str(tmp_path)))
