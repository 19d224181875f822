"""How a source's kind is found out, and that every kind becomes the same data set."""

import io
import json
import os
import pathlib
import tarfile

import numpy as np
import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.data import (
    csv_source,
    dataset,
    example,
    npz_source,
    pack,
    reader,
    source_kinds,
    tar_source,
    tfrecord,
    tfrecord_source,
    tree_source,
)
from imagetrain_trainer.storage import store


def names_and_images(root):
    """The files of a tree with their classes."""
    return [(path.parent.name, path) for path in sorted(root.glob("*/*"))]


def write_csv(tree, folder):
    lines = [f"{path.relative_to(folder)},{name}\n" for name, path in names_and_images(tree)]
    (folder / "pets.csv").write_text("path,label\n" + "".join(lines))
    return folder / "pets.csv"


def write_jsonl(tree, folder):
    lines = [
        json.dumps({"path": str(path.relative_to(folder)), "label": name}) + "\n"
        for name, path in names_and_images(tree)
    ]
    (folder / "pets.jsonl").write_text("".join(lines))
    return folder / "pets.jsonl"


def write_tfrecord(tree, folder):
    labels = sorted({name for name, _ in names_and_images(tree)})
    (folder / "records").mkdir()
    with (folder / "records" / "pets.tfrecord").open("wb") as file:
        for name, path in names_and_images(tree):
            record = example.Record(path.read_bytes(), labels.index(name), "", 0, 0, 0, name)
            file.write(tfrecord.frame(example.encode_record(record))[0])
    return folder / "records"


def write_tar(tree, folder):
    (folder / "tars").mkdir()
    with tarfile.open(folder / "tars" / "pets-000.tar", "w") as tar:
        for number, (name, path) in enumerate(names_and_images(tree)):
            for extension, body in ((path.suffix, path.read_bytes()), (".cls", name.encode())):
                info = tarfile.TarInfo(f"{number:05}{extension}")
                info.size = len(body)
                tar.addfile(info, io.BytesIO(body))
    return folder / "tars"


WRITERS = {"csv": write_csv, "jsonl": write_jsonl, "tfrecord": write_tfrecord, "tar": write_tar}
CLASSES = {
    "csv": csv_source.TableSource,
    "jsonl": csv_source.TableSource,
    "tfrecord": tfrecord_source.TfrecordSource,
    "tar": tar_source.TarSource,
}


def contents(objects):
    """The images of all splits with their class."""
    described = dataset.load_dataset(objects)
    found = []
    for split in dataset.SPLITS:
        with reader.DatasetReader(objects, split) as opened:
            batch = opened.read(np.arange(opened.records))
            found += zip((int(label) for label in batch.labels), map(bytes, batch.payloads), strict=True)
    return described, sorted(found)


def images_of(tree):
    labels = sorted({name for name, _ in names_and_images(tree)})
    return sorted((labels.index(name), path.read_bytes()) for name, path in names_and_images(tree))


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_is_found_and_packed(tree, tmp_path, kind):
    place = WRITERS[kind](tree, tmp_path)
    assert isinstance(source_kinds.open_source(place), CLASSES[kind])
    pack.pack(str(place), str(tmp_path / "packed"), pack.PackOptions(processes=2, shard_size_bytes=2048))
    described, found = contents(store.open_store(str(tmp_path / "packed")))
    assert found == images_of(tree)
    assert described.class_names == (("0", "1") if kind == "tfrecord" else ("cats", "dogs"))


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
@pytest.mark.parametrize("kind", ["tree", *WRITERS])
def test_every_kind_is_packed_from_s3(tree, tmp_path, s3_server, s3_bucket, kind):
    place = WRITERS[kind](tree, tmp_path) if kind in WRITERS else tree
    folder = place if place.is_dir() else place.parent
    for path in folder.rglob("*.*"):
        s3_server.client().upload_file(str(path), s3_bucket, f"in/{path.relative_to(folder)}")
    text = f"s3://{s3_bucket}/in/" + (place.name if place.is_file() else "")
    pack.pack(text, f"s3://{s3_bucket}/out/{kind}/", pack.PackOptions(processes=2))
    assert contents(store.open_store(f"s3://{s3_bucket}/out/{kind}/"))[1] == images_of(tree)


def test_a_packed_data_set_is_a_source_that_keeps_its_class_names(tree, tmp_path):
    pack.pack(tree, str(tmp_path / "first"), pack.PackOptions())
    pack.pack(str(tmp_path / "first"), str(tmp_path / "second"), pack.PackOptions())
    first, second = (contents(store.open_store(str(tmp_path / name))) for name in ("first", "second"))
    assert second[1] == first[1]
    assert second[0].class_names == ("cats", "dogs")
    assert {name: split.records for name, split in second[0].splits.items()} == {
        name: split.records for name, split in first[0].splits.items()
    }


def test_given_splits_are_kept_when_packed(tree, tmp_path):
    for split in ("train", "val"):
        for path in (tree / "cats").parent.glob("[cd]*/*"):
            target = tmp_path / "arranged" / split / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    pack.pack(tmp_path / "arranged", str(tmp_path / "packed"), pack.PackOptions(allow_leakage=True))
    splits = dataset.load_dataset(store.open_store(str(tmp_path / "packed"))).splits
    assert {name: split.class_counts for name, split in splits.items()} == {
        "train": (10, 10),
        "validation": (10, 10),
        "test": (0, 0),
    }


def test_folders_are_told_apart_by_what_is_in_them(tree, npz, tmp_path):
    assert isinstance(source_kinds.open_source(tree), tree_source.TreeSource)
    assert isinstance(source_kinds.open_source(tree.as_uri()), tree_source.TreeSource)
    assert isinstance(source_kinds.open_source(npz), npz_source.NpzSource)
    assert isinstance(source_kinds.open_source(npz.as_uri()), npz_source.NpzSource)
    (tree / "old.tar").write_bytes(b"")  # images make a tree of it
    assert isinstance(source_kinds.open_source(tree), tree_source.TreeSource)
    tars = write_tar(tree, tmp_path)
    for place in (tars / "pets-000.tar", f"{tars}/*.tar", f"{tars}/"):
        assert isinstance(source_kinds.open_source(place), tar_source.TarSource)
    records = write_tfrecord(tree, tmp_path)
    (records / "train-00000-of-00010").write_bytes((records / "pets.tfrecord").read_bytes())
    for place in (
        records / "pets.tfrecord",
        f"{records}/p*.tfrecord*",
        f"{records}/train-*-of-*",
        f"{records}/train-?????-of-00010",
        f"{records}/train-[0-9]*-of-00010",
    ):
        assert isinstance(source_kinds.open_source(place), tfrecord_source.TfrecordSource)


def test_the_format_may_be_given(tree, tmp_path):
    path = write_csv(tree, tmp_path).rename(tmp_path / "pets.txt")
    source = source_kinds.open_source(path, source_kinds.SourceOptions(format="csv"))
    assert len(list(source.entries())) == 20
    records = write_tfrecord(tree, tmp_path)
    (records / "pets.tfrecord").rename(records / "pets.bin")
    options = source_kinds.SourceOptions(format="tfrecord")
    assert len(list(source_kinds.open_source(f"{records}/*.bin", options).entries())) == 20


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (
            "nothing",
            r"source must be a folder with a folder per class, an .npz file, a list .* but 'nothing' does not ex",
        ),
        (
            "file.txt",
            r"source must be .* or tar files \(\*.tar\), on a disk or on s3://, got 'file.txt'. Pass --format",
        ),
        ("*.txt", "a pattern must match tar or TFRecord files, got"),
        ("", "source must be a path or an s3:// URI, got ''"),
        ("ftp://x/y", "source must be a path or an s3://BUCKET/PREFIX/ or file:///FOLDER/ URI, got 'ftp://x/y'"),
        ("empty", "source must hold the folders of at least 2 classes, and 'empty' holds 0"),
        ("s3://*/x.tar", "source must name its bucket without wildcards"),
    ],
)
def test_what_is_no_source_is_named_with_what_is_accepted(tmp_path, monkeypatch, text, rule):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("file.txt").write_text("x")
    pathlib.Path("empty").mkdir()
    with pytest.raises(errors.ConfigError, match=rule):
        source_kinds.open_source(text)


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
def test_a_prefix_without_anything_is_named(s3_server, s3_bucket):
    with pytest.raises(errors.ConfigError, match=rf"source must be .*, and 's3://{s3_bucket}/none' holds nothing"):
        source_kinds.open_source(f"s3://{s3_bucket}/none")


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"format": "zip"}, "format must be one of tree, npz, csv, jsonl, tfrecord, tar, got 'zip'"),
        ({"path_column": ""}, "path_column must be a name, got ''"),
        ({"group_column": ""}, "group_column must be a name, got ''"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, rule):
    with pytest.raises(errors.ConfigError, match=rule):
        source_kinds.SourceOptions(**options)


def test_groups_of_a_source_without_columns_are_refused(tree):
    with pytest.raises(errors.ConfigError, match="group_column must be left out for a source of format tree, got 'x'"):
        source_kinds.open_source(tree, source_kinds.SourceOptions(group_column="x"))


def test_a_path_listed_twice_stops_the_pack_with_both_lines(tree, tmp_path):
    path = write_csv(tree, tmp_path)
    with path.open("a") as file:
        file.write("pets/cats/00.png,dogs\n")
    with pytest.raises(
        errors.ConfigError, match=r"'pets/cats/00.png' must be listed once, and is on lines 2 and 22 of '.*c"
    ):
        pack.pack(path, str(tmp_path / "packed"), pack.PackOptions())


def test_a_bad_image_is_named_with_its_place_whatever_the_source(tree, tmp_path):
    (tree / "cats" / "03.png").write_bytes(b"no image")
    places = {
        "tree": (tree, r"'.*cats/03.png' must be an image"),
        "csv": (write_csv(tree, tmp_path), r"'.*cats/03.png' must be an image"),
        "tfrecord": (write_tfrecord(tree, tmp_path), r"record at offset \d+ of '.*pets.tfrecord' must be an image"),
        "tar": (write_tar(tree, tmp_path), r"image at offset \d+ of '.*pets-000.tar' must be an image"),
    }
    for kind, (place, rule) in places.items():
        with pytest.raises(errors.ConfigError, match=rule):
            pack.pack(place, str(tmp_path / "packed" / kind), pack.PackOptions(processes=1))


def test_groups_of_a_list_stay_together(tree, tmp_path):
    lines = [f"{path},{name},{number // 2}\n" for number, (name, path) in enumerate(names_and_images(tree))]
    (tmp_path / "list.csv").write_text("path,label,patient\n" + "".join(lines))
    source = source_kinds.open_source(tmp_path / "list.csv", source_kinds.SourceOptions(group_column="patient"))
    pack.pack(source, str(tmp_path / "packed"), pack.PackOptions())
    objects = store.open_store(str(tmp_path / "packed"))
    seen = {}
    for split in dataset.SPLITS:
        with reader.DatasetReader(objects, split) as opened:
            for key in opened.read(np.arange(opened.records)).keys:
                number = int(os.path.basename(key)[:2]) + 10 * ("dogs" in key)  # noqa: PTH119 - a key is no path here
                seen.setdefault(number // 2, set()).add(split)
    assert len(seen) == 10
    assert all(len(splits) == 1 for splits in seen.values())
