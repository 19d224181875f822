"""Folders and prefixes with a folder per class: what is listed, and how what is wrong is named."""

import os
import pickle

import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.data import tree_source


def keys(source):
    return [entry.key for entry in source.entries()]


def test_a_tree_is_listed_in_sorted_order_at_any_depth(tree):
    (tree / "cats" / "more" / "deep").mkdir(parents=True)
    os.link(tree / "cats" / "00.png", tree / "cats" / "more" / "deep" / "x.png")
    os.link(tree / "cats" / "00.png", tree / "cats" / "more!.png")  # sorts before the folder `more/`
    source = tree_source.TreeSource(str(tree))
    assert source.name == "pets"
    assert source.class_names == ("cats", "dogs")
    entries = list(source.entries())
    assert [entry.key for entry in entries] == sorted(entry.key for entry in entries)
    assert [entry.key for entry in entries][10:12] == ["cats/more!.png", "cats/more/deep/x.png"]
    assert [entry.class_name for entry in entries] == ["cats"] * 12 + ["dogs"] * 10
    assert {(entry.given_split, entry.group) for entry in entries} == {(None, None)}
    source = pickle.loads(pickle.dumps(source))
    assert source.read(entries[0].locator) == (tree / "cats" / "00.png").read_bytes()
    assert source.describe(entries[0].locator) == repr(str(tree / "cats" / "00.png"))


def test_hidden_and_system_files_are_passed_over_and_loose_ones_listed(tree):
    for name in (".DS_Store", "cats/.hidden.png", "cats/Thumbs.db", "README.md", "labels.csv"):
        (tree / name).write_bytes(b"?")
    (tree / ".git").mkdir()
    (tree / "cats" / "__MACOSX").mkdir()
    (tree / "cats" / "__MACOSX" / "x.png").write_bytes(b"?")
    source = tree_source.TreeSource(str(tree))
    assert len(keys(source)) == 20
    assert len(keys(source)) == 20  # a second listing counts nothing twice
    assert (source.ignored, source.ignored_count) == (("README.md", "labels.csv"), 2)


def test_links_to_files_are_followed_and_broken_ones_named_when_read(tree):
    (tree / "cats" / "a-link.png").symlink_to(tree / "dogs" / "00.jpeg")
    (tree / "cats" / "b-link.png").symlink_to(tree / "nothing")
    source = tree_source.TreeSource(str(tree))
    links = [entry for entry in source.entries() if "link" in entry.key]
    assert source.read(links[0].locator) == (tree / "dogs" / "00.jpeg").read_bytes()
    with pytest.raises(errors.ConfigError, match=r"'.*pets/cats/b-link.png' must exist, and it does not"):
        source.read(links[1].locator)


def test_a_pipe_is_not_waited_for(tree):
    os.mkfifo(tree / "cats" / "pipe.png")
    source = tree_source.TreeSource(str(tree))
    (pipe,) = (entry for entry in source.entries() if "pipe" in entry.key)
    with pytest.raises(errors.ConfigError, match=r"'.*pipe.png' must be a file, and it is a folder or a device"):
        source.read(pipe.locator)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (
            lambda tree: (tree / "dogs").rename(tree.parent / "dogs"),
            r"folders of at least 2 classes, and '.*pets' holds 1",
        ),
        (lambda tree: (tree / "birds").mkdir(), r"class folder '.*birds' must hold images, and it is empty"),
        (lambda tree: (tree / "x.JPG").write_bytes(b"1"), r"image '.*x.JPG' must lie in the folder of its class"),
        (lambda tree: (tree / "a\nb").mkdir(), r"class folder 'a\\nb' in '.*pets' must have a printable name"),
    ],
)
def test_a_tree_that_breaks_a_rule_is_named(tree, change, rule):
    change(tree)
    with pytest.raises(errors.ConfigError, match=rule):
        list(tree_source.TreeSource(str(tree)).entries())


def test_a_list_beside_a_folder_of_images_is_pointed_at(tree):
    (tree / "dogs").rename(tree.parent / "dogs")
    (tree / "a.txt").write_text("x")
    (tree / "train.csv").write_text("path,label")
    with pytest.raises(
        errors.ConfigError, match=r"holds 1\. If train.csv has the classes, pack '.*pets/train.csv' itself"
    ):
        tree_source.TreeSource(str(tree))


def arrange(tree, *splits):
    """Put copies of both class folders below folders of splits."""
    root = tree.parent / "arranged"
    for split in splits:
        for path in tree.glob("*/*"):
            (root / split / path.parent.name).mkdir(parents=True, exist_ok=True)
            os.link(path, root / split / path.relative_to(tree))
    return root


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        (("train", "val", "test"), {"train": "train", "val": "validation", "test": "test"}),
        (("Training", "Validation"), {"Training": "train", "Validation": "validation"}),
        (("train", "test"), {"train": None, "test": "test"}),  # validation is cut from train, as for an .npz file
    ],
)
def test_folders_of_splits_give_them(tree, splits, expected):
    root = arrange(tree, *splits)
    (root / splits[0] / "notes.txt").write_text("x")
    source = tree_source.TreeSource(str(root))
    assert source.class_names == ("cats", "dogs")
    entries = list(source.entries())
    assert len(entries) == 20 * len(splits)
    assert {entry.key.partition("/")[0]: entry.given_split for entry in entries} == expected
    assert {entry.class_name for entry in entries} == {"cats", "dogs"}
    assert entries[0].key == f"{min(splits)}/cats/00.png"
    assert source.ignored == (f"{splits[0]}/notes.txt",)


@pytest.mark.parametrize(
    ("splits", "change", "rule"),
    [
        (("val", "test"), lambda _: None, "source must hold a train folder beside its others, and .* holds test, val"),
        (
            ("train", "val", "valid"),
            lambda _: None,
            "source must hold one folder per split, and .* holds train, val, v",
        ),
        (
            ("train", "val"),
            lambda root: (root / "val" / "cows").mkdir(),
            "'cows' in '.*val' must be in the train folder",
        ),
        (
            ("train", "val"),
            lambda root: (root / "train" / "cows").mkdir(),
            "class folder '.*train/cows' must hold images",
        ),
        (
            ("train", "val"),
            lambda root: (root / "val" / "x.png").write_bytes(b"x"),
            "image '.*val/x.png' must lie in the",
        ),
    ],
)
def test_folders_of_splits_that_break_a_rule_are_named(tree, splits, change, rule):
    root = arrange(tree, *splits)
    change(root)
    with pytest.raises(errors.ConfigError, match=rule):
        list(tree_source.TreeSource(str(root)).entries())


def test_a_class_may_be_called_like_a_split(tree):
    (tree / "cats").rename(tree / "train")
    (tree / "dogs").rename(tree / "bus")
    assert tree_source.TreeSource(str(tree)).class_names == ("bus", "train")


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
def test_a_prefix_is_listed_and_read(tree, s3_server, s3_bucket):
    client = s3_server.client()
    for path in tree.glob("*/*"):
        client.upload_file(str(path), s3_bucket, f"deep/pets/{path.relative_to(tree)}")
    client.put_object(Bucket=s3_bucket, Key="deep/pets/cats/with space/ü.png", Body=b"U")
    client.put_object(Bucket=s3_bucket, Key="deep/pets/README.md", Body=b"x")
    client.put_object(Bucket=s3_bucket, Key="deep/pets/cats/.hidden/x.png", Body=b"x")
    client.put_object(Bucket=s3_bucket, Key="deep/pets-other/x/y.png", Body=b"x")
    client.put_object(Bucket=s3_bucket, Key="deep/pets/dogs/", Body=b"")  # consoles make folders like this
    source = tree_source.TreeSource(f"s3://{s3_bucket}/deep/pets/")
    assert (source.name, source.class_names) == ("pets", ("cats", "dogs"))
    found = keys(source)
    assert found == sorted([*keys(tree_source.TreeSource(str(tree))), "cats/with space/ü.png"])
    assert source.ignored == ("README.md",)
    source = pickle.loads(pickle.dumps(source))
    assert source.read("cats/with space/ü.png") == b"U"
    assert source.read("dogs/03.jpeg") == (tree / "dogs" / "03.jpeg").read_bytes()
    with pytest.raises(errors.ConfigError, match=r"'s3://.*/deep/pets/cats/gone.png' must exist, and it does not"):
        source.read("cats/gone.png")


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
def test_splits_of_a_prefix_are_found_and_a_whole_bucket_is_a_prefix(tree, s3_server, s3_bucket):
    root = arrange(tree, "train", "val")
    for path in root.glob("*/*/*"):
        s3_server.client().upload_file(str(path), s3_bucket, str(path.relative_to(root)))
    source = tree_source.TreeSource(f"s3://{s3_bucket}")
    assert {entry.given_split for entry in source.entries()} == {"train", "validation"}
    assert keys(source) == keys(tree_source.TreeSource(str(root)))
