"""Differences between two data sets, down to the record."""

import numpy as np
import pytest
from PIL import Image

from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset, diff, pack, reader
from imagetrain_trainer.storage import store


def write_tree(root, names, color=0):
    """Write one gray 4 x 4 image a name such as `cats/01`, each of its own pixels."""
    for number, name in enumerate(sorted(names)):
        path = root / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((4, 4), number, np.uint8)
        pixels[0, 0] = color
        Image.fromarray(pixels).save(path)


NAMES = [f"{name}/{number:02}" for name in ("cats", "dogs") for number in range(15)]


@pytest.fixture
def sources(tmp_path):
    """Two equal trees."""
    for name in "ab":
        write_tree(tmp_path / name, NAMES)
    return tmp_path / "a", tmp_path / "b"


@pytest.fixture
def compare(sources, tmp_path):
    def run(*, b=None, **options):
        for source in sources:
            target = str(tmp_path / f"packed-{source.name}")
            common = {"name": "pets", "shard_size_bytes": 1024}
            pack.pack(source, target, pack.PackOptions(**common | (b or {} if source.name == "b" else {})))
        uris = (str(tmp_path / "packed-a"), str(tmp_path / "packed-b"))
        return diff.diff(*uris, diff.DiffOptions(**options))

    return run


def test_equal_sets_are_identical_without_reading_a_record(compare, tmp_path):
    found = compare()
    assert found.is_identical
    assert found.is_same
    assert found.records is None
    for path in tmp_path.glob("packed-*/*/*"):
        path.unlink()
    assert diff.diff(str(tmp_path / "packed-a"), str(tmp_path / "packed-b")).is_identical


def test_the_same_records_in_other_shards_are_the_same(compare):
    found = compare(b={"name": "renamed", "shard_size_bytes": 2**20})
    assert not found.is_identical
    assert found.is_same
    assert found.records.unchanged == len(NAMES)
    assert ("name", "pets", "renamed") in found.facts
    assert "shards" in {name for name, _, _ in found.facts}


def test_added_removed_and_changed_records_are_named(compare, sources):
    b = sources[1]
    (b / "cats/00.png").unlink()
    write_tree(b, ["dogs/99"], color=7)
    Image.fromarray(np.full((4, 4), 200, np.uint8)).save(b / "cats/01.png")
    found = compare()
    assert not found.is_same
    names = {kind: [text.split()[0] for text in getattr(found.records, kind).first] for kind in ("added", "removed")}
    assert names == {"added": ["dogs/99.png"], "removed": ["cats/00.png"]}
    assert [text.split()[0] for text in found.records.changed.first] == ["cats/01.png"]
    assert found.as_json()["records"]["changed"]["count"] == 1
    assert sum(each.after - each.before for each in found.counts) == 0


def test_records_that_moved_between_splits_are_counted_and_leaks_told(compare):
    found = compare(b={"seed": 1})
    records = found.records
    assert not found.is_same
    assert records.moved.count == sum(records.moves.values()) > 0
    assert records.unchanged + records.moved.count == len(NAMES)
    assert records.leaked.count == records.moves["train", "test"] > 0
    assert all(" -> " in text for text in records.moved.first)


def test_a_leak_under_another_name_is_told(compare, sources, tmp_path):
    """An image of A's train split gets a second name in B, and that falls into B's test split."""
    keys = {split: keys_of(tmp_path, sources[0], split) for split in ("train", "test")}
    trained, tested = (next(key for key in keys[split] if key.startswith("cats")) for split in ("train", "test"))
    (sources[1] / tested).write_bytes((sources[1] / trained).read_bytes())
    found = compare(b={"allow_leakage": True})
    assert found.records.leaked.first == [f"{tested} is {trained} of A's train"]


def keys_of(tmp_path, source, split):
    target = tmp_path / f"keys-{split}"
    pack.pack(source, str(target), pack.PackOptions(name="pets"))
    with reader.DatasetReader(store.open_store(str(target)), split) as records:
        return records.read(np.arange(records.records)).keys


def test_classes_added_removed_and_reordered_are_told(compare, sources):
    b = sources[1]
    (b / "dogs").rename(b / "bears")
    found = compare()
    assert (found.classes_added, found.classes_removed) == (("bears",), ("dogs",))
    assert found.is_reordered  # cats has label 0 in A and 1 in B
    assert found.records.added.count == found.records.removed.count == 15
    assert {each.class_name for each in found.counts} == {"bears", "dogs"}


def test_counting_alone_reads_no_record(compare, sources, tmp_path):
    write_tree(sources[1], ["dogs/99"], color=7)
    found = compare(is_counting_only=True)
    assert found.records is None
    assert not found.is_same
    for path in tmp_path.glob("packed-*/*/*"):
        path.unlink()
    again = diff.diff(str(tmp_path / "packed-a"), str(tmp_path / "packed-b"), diff.DiffOptions(is_counting_only=True))
    assert again.counts == found.counts


def test_a_damaged_record_is_named_and_not_compared(compare, tmp_path):
    compare(b={"seed": 1})
    path = tmp_path / "packed-b/train/shard-00000.tfrecord"
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    with pytest.raises(errors.DataCorruptError, match=r"shard-00000\.tfrecord record 0 at offset 0 must match"):
        diff.diff(str(tmp_path / "packed-a"), str(tmp_path / "packed-b"))


def test_a_shard_of_another_version_in_its_place_is_found(compare, tmp_path):
    compare(b={"seed": 1})
    (tmp_path / "packed-b/train/shard-00000.tfrecord").write_bytes(b"")
    with pytest.raises(errors.DataCorruptError, match="must have the SHA-256"):
        diff.diff(str(tmp_path / "packed-a"), str(tmp_path / "packed-b"))


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
def test_sets_in_buckets_are_compared(s3_server, s3_bucket, sources):
    for source, options in zip(sources, ({}, {"seed": 3}), strict=True):
        pack.pack(source, f"s3://{s3_bucket}/{source.name}/", pack.PackOptions(name="pets", **options))
    told = []
    found = diff.diff(
        f"s3://{s3_bucket}/a/", f"s3://{s3_bucket}/b/", on_progress=lambda done, total: told.append((done, total))
    )
    assert found.records.moved.count > 0
    assert told[-1][0] == told[-1][1]
    assert dataset.load_dataset(store.open_store(f"s3://{s3_bucket}/a/")).digest == found.digests[0]
