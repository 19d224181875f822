"""Packing: the same bytes every time, nothing half-written visible, and every refusal named."""

import contextlib
import hashlib
import pathlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import packing_sources
from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset, encoding, images, info, pack, reader
from imagetrain_trainer.storage import local, store


def contents(folder):
    root = pathlib.Path(folder)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def read_all(uri, split):
    with reader.DatasetReader(store.open_store(str(uri)), split) as records:
        return records.read(np.arange(records.records))


def test_a_tree_keeps_each_files_bytes_and_its_class(tree, tmp_path):
    summary = pack.pack(tree, str(tmp_path / "out"))
    assert summary.dataset.class_names == ("cats", "dogs")
    assert {name: split.class_counts for name, split in summary.dataset.splits.items()} == {
        "train": (6, 6),
        "validation": (2, 2),
        "test": (2, 2),
    }
    assert summary.dataset.image == dataset.ImageFacts(
        encoding="mixed", channels=3, height=8, width=6, min_height=8, max_height=8, min_width=6, max_width=6
    )
    seen = set()
    for split in dataset.SPLITS:
        batch = read_all(tmp_path / "out", split)
        seen.update(batch.keys)
        for payload, key, label, kind in zip(batch.payloads, batch.keys, batch.labels, batch.formats, strict=True):
            assert payload == (tree / key).read_bytes()
            assert summary.dataset.class_names[label] == key.split("/")[0]
            assert kind == key.split(".")[1]
    assert len(seen) == 20


def test_sizes_that_differ_are_summarized(tree, tmp_path):
    Image.new("RGB", (30, 2)).save(tree / "cats" / "wide.png")
    image = pack.pack(tree, str(tmp_path / "out")).dataset.image
    assert (image.height, image.width) == (None, None)
    assert (image.min_height, image.max_height, image.min_width, image.max_width) == (2, 8, 6, 30)


def test_statistics_are_those_of_the_train_split(npz, arrays, tmp_path):
    packed = pack.pack(npz, str(tmp_path / "out")).dataset
    positions = [int(key[2:-1]) for key in read_all(tmp_path / "out", "train").keys]
    pixels = arrays["x"][positions].astype(float)
    assert packed.mean == (round(pixels.mean(), 6),)
    assert packed.std == (round(pixels.std(), 6),)


def test_a_given_test_split_is_kept(tmp_path, arrays):
    x, y = arrays["x"], arrays["y"]
    np.savez(tmp_path / "set.npz", x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
    packed = pack.pack(tmp_path / "set.npz", str(tmp_path / "out")).dataset
    assert {name: split.records for name, split in packed.splits.items()} == {"train": 45, "validation": 15, "test": 30}
    assert packed.split_ratios == {"train": 3, "validation": 1}
    assert sorted(read_all(tmp_path / "out", "test").keys) == sorted(f"x_test[{i}]" for i in range(30))


def test_the_bytes_do_not_depend_on_time_processes_or_folder_order(tree, tmp_path):
    pack.pack(tree, str(tmp_path / "a" / "pets"), pack.PackOptions(processes=1, shard_size_bytes=2048))
    copy = tmp_path / "copy" / "pets"
    for path in sorted(tree.rglob("*.*"), reverse=True):
        target = copy / path.relative_to(tree)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    pack.pack(copy, str(tmp_path / "b" / "pets"), pack.PackOptions(processes=3, shard_size_bytes=2048))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_the_bytes_never_change_between_versions(tmp_path):
    x = (np.arange(10 * 4 * 4) % 251).astype(np.uint8).reshape(10, 4, 4)
    np.savez(tmp_path / "fixed.npz", x=x, y=np.arange(10) % 2)
    summary = pack.pack(tmp_path / "fixed.npz", str(tmp_path / "out"))
    assert summary.dataset.digest == "sha256:f3732f8463f12de9c26f7928f4e3b2211da990b2078be494709f3e753875b20d"


def write_fixed_png(path, seed, height, width):
    """Write a PNG that no library's compression has touched, so that its bytes are the same everywhere."""
    pixels = [
        bytes((seed * 37 + y * 11 + x * 5 + c * 3) % 256 for x in range(width) for c in range(3)) for y in range(height)
    ]
    rows = b"".join(b"\0" + row for row in pixels)
    size = len(rows).to_bytes(2, "little") + (len(rows) ^ 0xFFFF).to_bytes(2, "little")
    stored = b"\x78\x01\x01" + size + rows + zlib.adler32(rows).to_bytes(4, "big")
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", stored), (b"IEND", b""))
    parts = [
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big") for kind, data in chunks
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def digest_shards(folder):
    shards = {key: data for key, data in contents(folder).items() if key != dataset.KEY}
    total = hashlib.sha256()
    for key in sorted(shards):
        total.update(key.encode() + b"\0" + shards[key])
    return total.hexdigest(), len(shards)


@pytest.mark.parametrize(
    ("seed", "ratios", "expected"),
    [
        (0, (3, 1, 1), "90da0921515eab4dcdcfd43285500de8f5a721b1126ff81257873e3ee8188e3a"),
        (5, (8, 1, 0), "d9a9e1e626963d760fb83bed3fbe62232739dbbc0fdbfe8e5f197172457780a3"),
    ],
)
def test_the_shards_of_a_tree_are_those_of_the_first_version(tmp_path, seed, ratios, expected):
    """The digests were made by the version that packed in two passes, as were those of the arrays below."""
    number = 0
    for name, count in (("ant", 11), ("bee", 7), ("Äsche", 13)):
        for i in range(count):
            write_fixed_png(tmp_path / "things" / name / f"d{i % 3}" / f"{i:02}.png", number, 6 + i % 3, 5)
            number += 1
    options = pack.PackOptions(shard_size_bytes=2048, seed=seed, ratios=ratios)
    pack.pack(tmp_path / "things", str(tmp_path / "out"), options)
    assert digest_shards(tmp_path / "out") == (expected, 14)


def test_the_shards_of_arrays_are_those_of_the_first_version(tmp_path):
    x = (np.arange(60 * 4 * 4).reshape(60, 4, 4) * 7 % 253).astype(np.uint8)
    np.savez(tmp_path / "one.npz", x=x, y=np.arange(60) % 4)
    pack.pack(tmp_path / "one.npz", str(tmp_path / "one"), pack.PackOptions(shard_size_bytes=1024))
    assert digest_shards(tmp_path / "one") == ("f355e5b1a469a1171e129b6445e929cb523bc989e0054431f4688bf80e38e2c2", 28)
    parts = {"x_train": x[:40], "y_train": np.arange(40) % 3, "x_test": x[40:], "y_test": np.arange(20) % 3}
    np.savez(tmp_path / "two.npz", **parts)
    pack.pack(tmp_path / "two.npz", str(tmp_path / "two"), pack.PackOptions(shard_size_bytes=1024, seed=9))
    assert digest_shards(tmp_path / "two") == ("7763e63dbcd633c635764faba95cd02cfd2adb2d13e3a42fc85b592b106f5410", 32)


def test_the_seed_changes_the_split(npz, tmp_path):
    for seed in (0, 1):
        pack.pack(npz, str(tmp_path / f"{seed}"), pack.PackOptions(seed=seed))
    assert set(read_all(tmp_path / "0", "test").keys) != set(read_all(tmp_path / "1", "test").keys)


def test_shards_keep_to_their_size(npz, tmp_path):
    splits = pack.pack(npz, str(tmp_path / "out"), pack.PackOptions(shard_size_bytes=2048)).dataset.splits
    sizes = [shard.size_bytes for shard in splits["train"].shards]
    assert len(sizes) > 3
    assert max(sizes) <= 2048
    assert min(sizes[:-1]) > 1500


def test_progress_and_summary_tell_what_was_done(tree, tmp_path):
    (tree / "notes.txt").write_text("x")
    Image.new("RGB", (6, 8)).save(tree / "cats" / "a.webp")
    seen = []
    summary = pack.pack(tree, str(tmp_path / "out"), on_progress=seen.append)
    assert seen[0] == pack.PackProgress("list", 21, None)
    assert [state.stage for state in seen[1:]] == ["pack"] * (len(seen) - 1)
    done = [state.done for state in seen[1:]]
    assert done == sorted(done)
    assert (done[0], seen[-1]) == (0, pack.PackProgress("pack", 21, 21))
    assert summary.uri == f"file://{tmp_path}/out/"
    assert summary.conversions == {"webp to png": 1}
    assert summary.ignored == ("notes.txt",)
    files = contents(tmp_path / "out")
    assert summary.size_bytes == sum(len(data) for name, data in files.items() if name != "dataset.json")


def test_a_bad_image_stops_the_pack_and_is_named(tree, tmp_path):
    (tree / "dogs" / "03.jpeg").write_bytes(b"junk")
    with pytest.raises(
        errors.ConfigError, match=r"dogs/03.jpeg' must be an image that Pillow can read\. .* --skip-bad"
    ):
        pack.pack(tree, str(tmp_path / "out"))
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_skip_bad_lists_what_it_leaves_out(tree, tmp_path):
    (tree / "dogs" / "03.jpeg").write_bytes(b"junk")
    (tree / "dogs" / "05.jpeg").write_bytes(b"")
    summary = pack.pack(tree, str(tmp_path / "out"), pack.PackOptions(skip_bad=True))
    reasons = {skipped.key: skipped.reason for skipped in summary.skipped}
    assert sorted(reasons) == ["dogs/03.jpeg", "dogs/05.jpeg"]
    assert summary.skipped_count == 2
    assert "must be an image, got an empty file" in reasons["dogs/05.jpeg"]
    assert summary.dataset.records == 18


def test_too_few_images_left_by_skip_bad_is_an_error(tree, tmp_path):
    for number in range(8):
        (tree / "dogs" / f"{number:02}.jpeg").write_bytes(b"junk")
    with pytest.raises(
        errors.ConfigError, match="class 'dogs' must have an image that can be used in every split, and has none in"
    ):
        pack.pack(tree, str(tmp_path / "out"), pack.PackOptions(skip_bad=True))


def test_mixed_channels_name_one_of_each(tree, tmp_path):
    Image.new("L", (6, 8)).save(tree / "cats" / "gray.png")
    with pytest.raises(
        errors.ConfigError, match=r"'cats/gray.png' is gray and '(cats|dogs)/\d\d.(png|jpeg)' is color.*--channels 3"
    ):
        pack.pack(tree, str(tmp_path / "out"))


@pytest.mark.parametrize("channels", [1, 3])
def test_mixed_channels_may_be_made_equal(tree, tmp_path, channels):
    Image.new("L", (6, 8), 100).save(tree / "cats" / "gray.png")
    summary = pack.pack(tree, str(tmp_path / "out"), pack.PackOptions(channels=channels))
    assert summary.dataset.image.channels == channels
    assert len(summary.dataset.mean) == channels
    assert summary.conversions == ({"rgb to gray": 20} if channels == 1 else {})


@pytest.mark.parametrize("place", ["folder", "moto_s3", "versitygw_s3"])
def test_a_destination_that_holds_a_data_set_is_refused(request, monkeypatch, npz, tmp_path, place):
    if place == "folder":
        uri = str(tmp_path / "out")
    else:
        server = request.getfixturevalue(place)
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        uri = f"s3://{server.create_bucket('taken-destination')}/numbers/v1/"
    first = pack.pack(npz, uri)
    with pytest.raises(errors.ObjectExistsError, match=rf"{first.uri} must not hold a data set.* choose a new prefix"):
        pack.pack(npz, uri, pack.PackOptions(seed=1))
    assert info.describe(uri).digest == first.dataset.digest


def test_a_destination_with_other_files_is_refused(npz, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    with pytest.raises(errors.ConfigError, match=r"out/ must be empty, got 'thesis.tex' in it"):
        pack.pack(npz, str(tmp_path / "out"))


def test_a_destination_inside_the_source_is_refused(tree):
    for destination in (str(tree), str(tree / "packed"), (tree / "packed").as_uri()):
        with pytest.raises(errors.ConfigError, match="destination must lie outside the source"):
            pack.pack(tree, destination)


@pytest.mark.parametrize(
    ("source", "destination", "is_inside"),
    [
        ("s3://photos/raw", "s3://photos/raw/packed", True),
        ("s3://photos/raw/", "s3://photos/raw", True),
        ("s3://photos/raw", "s3://photos/raw2/", False),
        ("s3://photos/raw", "/srv/photos", False),
        ("/srv/photos", "s3://photos/raw", False),
        ("file:///srv/photos", "/srv/photos/packed", True),
        ("/srv/photos/list.csv", "/srv/photos/packed", False),
    ],
)
def test_places_inside_each_other_are_told_on_any_store(source, destination, is_inside):
    with pytest.raises(errors.ConfigError, match="must lie outside") if is_inside else contextlib.nullcontext():
        pack.check_places(source, destination)


@pytest.mark.parametrize(
    "destination", ["s3://photos/set/latest", "s3://photos/set/latest/", "latest", "/srv/latest//"]
)
def test_a_destination_that_means_another_version_is_refused(npz, destination):
    for check in (pack.check_places, pack.pack):
        with pytest.raises(errors.ConfigError, match=r"destination must not be called latest, .* Name the version"):
            check(npz, destination)
    pack.check_places(npz, destination.replace("latest", "latest-2"))


def test_a_destination_that_is_a_file_is_refused(npz, tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(errors.StorageError, match="out"):
        pack.pack(npz, str(tmp_path / "out"))


def test_a_denied_destination_shows_before_any_image_is_read(versitygw_s3, monkeypatch, tree):
    bucket = versitygw_s3.create_bucket("denied-destination")
    for name, value in versitygw_s3.create_read_only_user(bucket).environment().items():
        monkeypatch.setenv(name, value)
    (tree / "cats" / "00.png").write_bytes(b"junk")
    with pytest.raises(errors.AccessDeniedError, match=f"cannot write s3://{bucket}/x/"):
        pack.pack(tree, f"s3://{bucket}/x/")


def test_a_full_disk_is_named(npz, tmp_path, monkeypatch):
    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(local.os, "fsync", fail)
    with pytest.raises(errors.DiskFullError, match="no space is left"):
        pack.pack(npz, str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"ratios": (0, 1, 1)}, r"ratios must be three finite numbers, the first above 0"),
        ({"ratios": (3, -1, 1)}, "ratios must be"),
        ({"ratios": (3, 1, float("inf"))}, "ratios must be"),
        ({"ratios": (3, 1)}, "ratios must be"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"shard_size_bytes": 10}, "shard size must be at least 1024 bytes, got 10"),
        ({"channels": 4}, "channels must be 1 or 3, got 4"),
        ({"processes": 0}, "processes must be at least 1, got 0"),
    ],
)
def test_an_option_that_breaks_a_rule_is_named(options, rule):
    with pytest.raises(errors.ConfigError, match=rule):
        pack.PackOptions(**options)


def test_a_lost_answer_to_the_last_write_is_no_failure(npz, tmp_path, monkeypatch):
    put = local.LocalStore.put

    def put_twice(self, key, data, **options):
        result = put(self, key, data, **options)
        return put(self, key, data, **options) if key == dataset.KEY else result

    monkeypatch.setattr(local.LocalStore, "put", put_twice)
    pack.pack(npz, str(tmp_path / "out"))


def test_another_pack_that_published_first_wins(npz, tmp_path):
    def overtake(progress):
        if progress == pack.PackProgress("pack", 90, 90):
            (tmp_path / "out" / "dataset.json").write_bytes(b"another's")

    with pytest.raises(errors.ObjectExistsError, match=r"dataset.json must not exist yet"):
        pack.pack(npz, str(tmp_path / "out"), on_progress=overtake)
    assert (tmp_path / "out" / "dataset.json").read_bytes() == b"another's"


def test_info_describes_what_was_packed(tree, tmp_path):
    summary = pack.pack(tree, str(tmp_path / "out"), pack.PackOptions(name="my pets"))
    described = info.describe(str(tmp_path / "out"))
    assert (described.name, described.records, described.digest) == ("my pets", 20, summary.dataset.digest)
    assert described.histogram() == [
        ("cats", {"train": 6, "validation": 2, "test": 2}),
        ("dogs", {"train": 6, "validation": 2, "test": 2}),
    ]
    document = described.as_json()
    assert document["splits"]["train"] == {
        "records": 12,
        "shards": 1,
        "sizeBytes": summary.dataset.splits["train"].size_bytes,
        "classCounts": {"cats": 6, "dogs": 6},
    }
    assert document["image"]["minHeight"] == 8
    assert document["sizeBytes"] == described.size_bytes


@pytest.mark.parametrize(
    ("options", "encoding_name", "size"),
    [
        ({"kind": "jpeg", "quality": 80}, "jpeg", (8, 6)),
        ({"kind": "png", "longest_side": 4}, "png", (4, 3)),
        ({"kind": "raw", "size": (5, 5)}, "raw", (5, 5)),
    ],
)
def test_images_can_be_stored_alike(tree, tmp_path, options, encoding_name, size):
    Image.new("L", (30, 40), 7).save(tree / "cats" / "gray.gif")
    Image.new("RGBA", (12, 16), (1, 2, 3, 0)).save(tree / "dogs" / "clear.webp")
    chosen = pack.PackOptions(
        encoding=encoding.EncodingOptions(**options),
        policy=images.ImagePolicy(animated="first", alpha="black"),
        channels=3,
        processes=2,
    )
    packed = pack.pack(tree, str(tmp_path / "out"), chosen).dataset
    assert packed.image.encoding == encoding_name
    assert (packed.image.min_height, packed.image.min_width) == size
    assert packed.packing["encoding"] == encoding_name
    assert (packed.packing["channels"], packed.packing["alpha"], packed.packing["animated"]) == (3, "black", "first")
    assert dataset.load_dataset(store.open_store(str(tmp_path / "out"))) == packed
    assert sum(count for _, count in packed.size_histogram) == packed.records == 22


def test_raw_images_of_two_sizes_are_refused(tmp_path):
    class TwoSizes(packing_sources.TableSource):
        def read(self, locator):
            return np.zeros((3, 4 + (locator == "b/1"), 1), np.uint8)

    with pytest.raises(
        errors.ConfigError, match=r"all images stored raw must have one size, and .*3 x [45] x 1.*--size HEIGHTxWIDTH"
    ):
        pack.pack(TwoSizes(packing_sources.make_entries(5, 5)), str(tmp_path / "out"))
