"""Verification finds every change of every byte, and names shard and record."""

import hashlib
import io
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset, defects, example, pack, reader, shard_index, tfrecord, verify
from imagetrain_trainer.storage import local, store


def encode(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


SHARD = "train/shard-00000.tfrecord"
INDEX = "train/shard-00000.index"


@pytest.fixture
def pets(tmp_path, tree):
    """PNG and JPEG images of 8 x 6 pixels."""
    pack.pack(tree, str(tmp_path / "pets-packed"))
    return store.open_store(str(tmp_path / "pets-packed"))


def check(packed, **options):
    return verify.verify(str(packed.root), verify.VerifyOptions(**options))


def named(report, kind):
    return [str(defect) for defect in report.defects.named(kind)]


def kinds(report):
    return {kind for kind in defects.KINDS if report.defects.count(kind)}


def read_everything(packed, **options):
    for split in dataset.SPLITS:
        with reader.DatasetReader(packed, split, reader.ReaderOptions(**options)) as records:
            yield from read_split(records)


def read_split(records):
    batch = records.read(np.arange(records.records))
    return zip(batch.keys, batch.labels.tolist(), batch.payloads, strict=True)


def test_a_packed_set_is_whole(packed):
    report = check(packed)
    assert report.is_whole
    assert report.records == 90
    assert report.images == 90
    assert report.digest == dataset.load_dataset(packed).digest
    sizes = [info.size_bytes for info in packed.list() if info.key.endswith(".tfrecord")]
    assert report.size_bytes == sum(sizes)
    assert report.objects == 1 + 2 * len(sizes)


def test_the_sample_is_as_large_as_asked_and_the_progress_ends_at_the_total(packed):
    told = []
    report = verify.verify(
        str(packed.root), verify.VerifyOptions(sample=7), lambda done, total: told.append((done, total))
    )
    assert report.images == 7
    assert told[-1] == (report.size_bytes, report.size_bytes)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def flip(path: pathlib.Path, position: int, mask: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= mask
    path.write_bytes(bytes(data))


def flip_anywhere(packed, random):
    """Change one random byte of one random object; return its path and what it held."""
    paths = sorted(path for path in packed.root.rglob("*") if path.is_file())
    path = paths[random.integers(len(paths))]
    before = path.read_bytes()
    flip(path, int(random.integers(len(before))), int(random.integers(1, 256)))
    return path, before


def assert_found(packed, path):
    """Assert that verification names the damaged object."""
    report = check(packed, sample=0)
    assert not report.is_whole, path
    key = path.relative_to(packed.root).as_posix()
    assert any(defect.key == key for kind in defects.KINDS for defect in report.defects.named(kind)), path


def assert_never_read(packed, path, expected, in_memory_bytes):
    """Assert that the reader refuses the data set, or that its description means the same."""
    description, records = expected
    try:
        found = list(read_everything(packed, in_memory_bytes=in_memory_bytes))
    except errors.DataCorruptError:
        return
    assert path.name == dataset.KEY, path  # white space, or the spelling of a number
    assert dataset.load_dataset(packed) == description
    assert found == records


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", ["packed", "pets"])
def test_a_flip_of_any_byte_of_any_object_is_found_and_never_read_as_data(request, kind, seed):
    """Twenty random flips a seed, one at a time, over shards, indexes and dataset.json; raw pixels, PNG and JPEG."""
    packed, random = request.getfixturevalue(kind), np.random.default_rng(seed)
    expected = dataset.load_dataset(packed), list(read_everything(packed))
    for turn in range(20):
        path, before = flip_anywhere(packed, random)
        assert_found(packed, path)
        assert_never_read(packed, path, expected, in_memory_bytes=0 if turn % 2 else 2**26)
        path.write_bytes(before)
    assert check(packed).is_whole


@pytest.mark.parametrize("start", range(7))
def test_a_flip_of_every_byte_of_a_shard_its_index_and_the_description_is_found(packed, start):
    """Every seventh byte of a shard and an index, one at a time, and of dataset.json every hundredth."""
    for name, step in ((SHARD, 7), (INDEX, 7), (dataset.KEY, 100)):
        path = packed.root / name
        before = path.read_bytes()
        for position in range(start, len(before), step):
            flip(path, position, 1 << position % 8)
            assert_found(packed, path)
            path.write_bytes(before)


def test_an_object_that_was_emptied_is_found(packed):
    for path in sorted(path for path in packed.root.rglob("*") if path.is_file()):
        before = path.read_bytes()
        path.write_bytes(b"")
        assert_found(packed, path)
        path.write_bytes(before)


def test_every_damaged_record_is_named_and_the_first_twenty_of_a_kind_are_kept(tmp_path, npz):
    pack.pack(npz, str(tmp_path / "set"))
    objects = store.open_store(str(tmp_path / "set"))
    entries = shard_index.decode(objects.get(INDEX))
    for number in (0, 3, *range(10, 40)):
        offset, length, *_ = entries[number].item()
        flip(tmp_path / "set" / SHARD, offset + length // 2, 0xFF)
    report = check(objects)
    assert report.defects.count("record") == 32
    first = entries[3].item()[0]
    assert named(report, "record")[1] == f"{SHARD} record 3 at offset {first} must match its CRC32C"
    assert len(named(report, "record")) == defects.MOST_NAMED
    assert report.defects.count("checksum") == 2
    assert report.records == 90
    assert kinds(report) == {"record", "checksum"}  # the labels of broken records are still counted, by the index
    assert report.as_json()["defects"]["record"]["count"] == 32


def test_a_missing_shard_and_a_missing_index_are_both_named_and_the_rest_is_still_checked(packed):
    (packed.root / SHARD).unlink()
    (packed.root / "test/shard-00000.index").unlink()
    report = check(packed)
    assert named(report, "missing") == [
        f"{SHARD} must be there: dataset.json lists it",
        "test/shard-00000.index must be there: dataset.json lists it",
    ]
    assert report.defects.total == 2
    lost = dataset.load_dataset(packed).splits["train"].shards[0].records
    assert report.records == 90 - lost


def test_an_unlisted_shard_is_a_defect_and_an_unlisted_file_beside_is_only_told(packed):
    (packed.root / "train/shard-99999.tfrecord").write_bytes(b"")
    (packed.root / "LICENSE").write_text("CC0")
    report = check(packed)
    assert named(report, "extra") == [
        "train/shard-99999.tfrecord must not lie in a split's folder, for dataset.json does not list it"
    ]
    assert report.unlisted == ("LICENSE",)


def test_a_truncated_shard_says_where_it_ends(packed):
    path = packed.root / SHARD
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-100])
    report = check(packed)
    assert named(report, "size") == [f"{SHARD} must have the {size} bytes that dataset.json lists, got {size - 100}"]
    assert "cut off" in named(report, "record")[0]
    assert kinds(report) == {"size", "record"}
    with pytest.raises(errors.DataCorruptError):
        list(read_everything(packed, in_memory_bytes=0))


def test_bytes_behind_a_shard_are_found(packed):
    with (packed.root / SHARD).open("ab") as file:
        file.write(b"\0")
    assert kinds(check(packed)) == {"size"}


def swap(packed, one, other):
    first, second = packed.get(one), packed.get(other)
    packed.put(one, second)
    packed.put(other, first)


def test_swapped_shards_are_found_though_each_is_whole(packed):
    swap(packed, SHARD, "train/shard-00001.tfrecord")
    report = check(packed)
    assert report.defects.count("checksum") + report.defects.count("size") >= 2
    assert {defect.key for defect in report.defects.named("index") + report.defects.named("record")} >= {SHARD}
    with pytest.raises(errors.DataCorruptError):
        list(read_everything(packed, in_memory_bytes=0))


def test_swapped_indexes_are_found_and_the_records_are_checked_without_them(packed):
    swap(packed, INDEX, "train/shard-00001.index")
    report = check(packed)
    assert [defect.key for defect in report.defects.named("index")] == [INDEX, "train/shard-00001.index"]
    assert report.records == 90
    with pytest.raises(errors.DataCorruptError, match=INDEX):
        list(read_everything(packed))


def test_a_foreign_record_is_found_though_it_is_whole(packed):
    """The record has the length of the one it replaces, and right CRCs of its own."""
    data, entries = bytearray(packed.get(SHARD)), shard_index.decode(packed.get(INDEX))
    offset, length, *_ = entries[1].item()
    record = example.decode_record(tfrecord.unframe(bytes(data[offset : offset + length])))
    data[offset : offset + length], _ = tfrecord.frame(
        example.encode_record(record._replace(payload=bytes(len(record.payload))))
    )
    packed.put(SHARD, bytes(data))
    report = check(packed)
    expected = f"{SHARD} record 1 at offset {offset} must be the record of its index entry"
    assert named(report, "index")[0].startswith(expected)
    assert kinds(report) == {"index", "checksum"}
    with pytest.raises(errors.DataCorruptError, match="record 1"):
        list(read_everything(packed, in_memory_bytes=0))


def reseal(packed, change):
    """Rewrite dataset.json with a right digest."""
    document = json.loads(packed.get(dataset.KEY))
    change(document)
    del document["digest"]
    document["digest"] = dataset.compute_digest(document)
    packed.put(dataset.KEY, (json.dumps(document, indent=1) + "\n").encode())


def forge(packed, number, **changes):
    """Change a record of the first shard and write all checksums to match, as a writer with a fault would."""
    data, entries = packed.get(SHARD), shard_index.decode(packed.get(INDEX))
    frames, rows, offset = [], [], 0
    for position, (start, length, label, _) in enumerate(entries.tolist()):
        record = example.decode_record(tfrecord.unframe(data[start : start + length]))
        framed, crc = tfrecord.frame(example.encode_record(record._replace(**changes if position == number else {})))
        frames.append(framed)
        rows.append((offset, len(framed), label, crc))
        offset += len(framed)
    shard, index = b"".join(frames), shard_index.encode(np.array(rows, shard_index.ENTRY))
    packed.put(SHARD, shard)
    packed.put(INDEX, index)

    def change(document):
        document["splits"]["train"]["shards"][0].update(
            sizeBytes=len(shard),
            crc32c=tfrecord.crc32c(shard),
            sha256=hashlib.sha256(shard).hexdigest(),
            indexSizeBytes=len(index),
            indexCrc32c=shard_index.checksum(index),
        )

    reseal(packed, change)


GRAY = encode(np.zeros((8, 6), np.uint8))
LARGE = encode(np.zeros((9, 6, 3), np.uint8))
BROKEN = encode(np.zeros((8, 6, 3), np.uint8))[:-30]


@pytest.mark.parametrize(
    ("changes", "kind", "rule"),
    [
        ({"label": 2}, "label", "must have a label below 2, got 2"),
        ({"format": "webp"}, "image", "must have image/format png or jpeg, got 'webp'"),
        ({"channels": 4}, "image", "must have image/channels 1 or 3, got 4"),
        ({"height": 9}, "image", "must have a size of 8-8 x 6-6 pixels as dataset.json says, got 9 x 6"),
        ({"format": "png", "payload": GRAY}, "image", "must decode to 8 x 6 pixels of mode RGB, got 8 x 6 of L"),
        ({"format": "png", "payload": LARGE}, "image", "must decode to 8 x 6 pixels of mode RGB, got 9 x 6 of RGB"),
        ({"format": "png", "payload": BROKEN}, "image", "must hold a png that decodes"),
        ({"format": "jpeg", "payload": GRAY}, "image", "must hold a jpeg that decodes"),
        ({"format": "png", "payload": b""}, "image", "must hold a png that decodes"),
    ],
)
def test_an_image_that_is_not_what_its_record_says_is_found(pets, changes, kind, rule):
    forge(pets, 4, **changes)
    found = named(check(pets, sample=None), kind)
    assert rule in found[-1]
    assert " record 4 at offset " in found[-1]


def test_images_outside_the_sample_are_not_decoded(pets):
    forge(pets, 4, format="png", payload=BROKEN)
    assert check(pets, sample=0).is_whole
    assert not check(pets, sample=None).is_whole


def test_pixels_that_are_cut_off_are_found_without_decoding(packed):
    forge(packed, 0, payload=bytes(19))
    assert named(check(packed, sample=0), "image")[0].startswith(f"{SHARD} record 0 at offset 0 must have 20 bytes")


def test_a_description_that_counts_wrong_is_found(packed):
    def change(document):
        counts = document["splits"]["train"]["classCounts"]
        counts[0], counts[1] = counts[0] + 1, counts[1] - 1

    reseal(packed, change)
    assert named(check(packed), "counts") == [
        "dataset.json must count the train records of class '0': lists 19, the shards hold 18",
        "dataset.json must count the train records of class '1': lists 17, the shards hold 18",
    ]


def test_a_description_that_lists_a_shard_twice_is_found(packed):
    reseal(
        packed, lambda document: document["splits"]["test"].update(shards=document["splits"]["validation"]["shards"])
    )
    assert (
        "must list each object once, got validation/shard-00000.tfrecord again"
        in named(check(packed), "description")[0]
    )


def test_a_description_that_was_only_laid_out_anew_is_told(packed):
    packed.put(dataset.KEY, json.dumps(json.loads(packed.get(dataset.KEY))).encode())
    report = check(packed)
    assert kinds(report) == {"description"}
    assert "byte for byte" in named(report, "description")[0]


def test_a_damaged_description_does_not_hide_what_else_is_wrong(packed):
    packed.put(dataset.KEY, packed.get(dataset.KEY).replace(b'"numbers"', b'"nombers"'))
    flip(packed.root / SHARD, 200, 1)
    report = check(packed)
    assert named(report, "description") == ["dataset.json must match its digest"]
    assert report.defects.count("record") == 1


def test_a_description_that_does_not_parse_is_the_one_defect(packed):
    packed.put(dataset.KEY, b"{")
    report = check(packed)
    assert kinds(report) == {"description"}
    assert report.digest == ""


def test_a_place_without_a_data_set_is_an_error(tmp_path):
    with pytest.raises(errors.ObjectNotFoundError, match="holds no packed data set"):
        verify.verify(str(tmp_path))


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
def test_damage_in_a_bucket_is_found(s3_server, s3_bucket, npz):
    uri = f"s3://{s3_bucket}/set/"
    pack.pack(npz, uri, pack.PackOptions(shard_size_bytes=2048))
    assert verify.verify(uri).is_whole
    folder = s3_server.root / s3_bucket / "set"
    flip(folder / SHARD, 100, 0x10)
    (folder / "validation/shard-00000.tfrecord").unlink()
    report = verify.verify(uri)
    assert kinds(report) == {"record", "checksum", "missing"}


def test_a_store_that_cannot_be_reached_is_no_defect_but_an_error(packed, monkeypatch):
    def refuse(*_):
        raise errors.StorageUnavailableError("no answer")

    monkeypatch.setattr(local.LocalStore, "get_ranges", refuse)
    with pytest.raises(errors.StorageUnavailableError, match="no answer"):
        check(packed)


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
def test_a_bucket_without_the_right_to_read_is_an_error(s3_server, s3_bucket, npz, monkeypatch):
    uri = f"s3://{s3_bucket}/set/"
    pack.pack(npz, uri)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(errors.AccessDeniedError):
        verify.verify(uri)
