"""What packing accepts as a source, and how it names what is wrong."""

import os

import numpy as np
import pytest
from PIL import Image

from imagetrain_trainer import errors
from imagetrain_trainer.data import source_kinds, sources


def test_a_tree_is_read_in_sorted_order_at_any_depth(tree):
    (tree / "cats" / "more" / "deep").mkdir(parents=True)
    os.link(tree / "cats" / "00.png", tree / "cats" / "more" / "deep" / "x.png")
    source = source_kinds.open_source(tree)
    assert source.name == "pets"
    assert source.class_names == ("cats", "dogs")
    assert [item.key for item in source.items][:2] == ["cats/00.png", "cats/01.png"]
    assert [item.key for item in source.items if "deep" in item.key] == ["cats/more/deep/x.png"]
    assert [item.label for item in source.items] == [0] * 11 + [1] * 10
    stored = source.read(source.items[0])
    assert stored.payload == (tree / "cats" / "00.png").read_bytes()


def test_hidden_and_system_files_are_passed_over_and_loose_ones_listed(tree):
    for name in (".DS_Store", "cats/.hidden.png", "cats/Thumbs.db", "README.md", "labels.csv"):
        (tree / name).write_bytes(b"?")
    (tree / ".git").mkdir()
    source = source_kinds.open_source(tree)
    assert len(source.items) == 20
    assert source.ignored == ("README.md", "labels.csv")


def test_links_to_files_are_followed(tree, tmp_path):
    (tree / "cats" / "link.png").symlink_to(tree / "dogs" / "00.jpeg")
    source = source_kinds.open_source(tree)
    assert source.read(source.items[10]).format == "jpeg"


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
        source_kinds.open_source(tree)


def test_folders_of_splits_are_not_taken_for_classes(tree):
    (tree / "cats").rename(tree / "train")
    (tree / "dogs").rename(tree / "Validation")
    with pytest.raises(errors.ConfigError, match=r"one folder per class, and '.*' holds splits \(Validation, train\)"):
        source_kinds.open_source(tree)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("nothing", "source must be a folder or an .npz file, but '.*nothing' does not exist"),
        ("file.txt", "source must be a folder with a folder per class, or an .npz file, got '.*file.txt'"),
    ],
)
def test_what_is_neither_tree_nor_arrays_is_named(tmp_path, name, rule):
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(errors.ConfigError, match=rule):
        source_kinds.open_source(tmp_path / name)


def test_a_bad_image_is_named_with_its_rule(tree):
    (tree / "cats" / "03.png").write_bytes(b"no image")
    source = source_kinds.open_source(tree)
    with pytest.raises(errors.ConfigError, match=r"'.*pets/cats/03.png' must be an image that Pillow can read"):
        source.read(source.items[3])


def test_arrays_of_one_set(npz, arrays):
    source = source_kinds.open_source(npz)
    assert source.name == "numbers"
    assert source.class_names == ("0", "1", "2")
    assert source.items[7] == sources.Item("x[7]", 1, None, 7)
    stored = source.read(source.items[7])
    assert (stored.format, stored.height, stored.width, stored.channels) == ("raw", 5, 4, 1)
    assert stored.payload == arrays["x"][7].tobytes()


def test_arrays_with_a_test_split_and_class_names(tmp_path, arrays):
    x, y = np.stack([arrays["x"]] * 3, -1), arrays["y"].astype(np.uint8)
    np.savez_compressed(
        tmp_path / "set.npz", x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:], classes=["a", "b", "c"]
    )
    source = source_kinds.open_source(tmp_path / "set.npz")
    assert source.class_names == ("a", "b", "c")
    assert {item.given_split for item in source.items[:60]} == {None}
    assert source.items[60] == sources.Item("x_test[0]", 0, "test", 0)
    assert source.read(source.items[61]).payload == x[61].tobytes()


X, Y = np.zeros((6, 5, 4), np.uint8), np.arange(6) % 2


@pytest.mark.parametrize(
    ("arrays", "rule"),
    [
        ({"a": X}, r"must hold arrays x and y, or else x_train, y_train, x_test and y_test, got \['a'\]"),
        ({"x": X}, "must hold arrays x and y"),
        ({"x_train": X, "y_train": Y, "x_test": X}, "must hold arrays x and y"),
        ({"x": X, "y": Y, "x_train": X, "y_train": Y, "x_test": X, "y_test": Y}, "must hold arrays x and y, or else"),
        ({"x": X.astype(np.float32), "y": Y}, r"array 'x' of '.*bad.npz' must have dtype uint8 .*, got float32"),
        ({"x": X[0], "y": Y}, r"array 'x' .* must have shape \(n, height, width\) or .*, got \(5, 4\)"),
        ({"x": np.zeros((6, 5, 4, 4), np.uint8), "y": Y}, r"array 'x' .* must have shape"),
        ({"x": X[:0], "y": Y[:0]}, r"array 'x' .* must have shape .*, got \(0, 5, 4, 1\)"),
        ({"x": X, "y": Y.astype(float)}, "array 'y' .* must hold integers, got float64"),
        ({"x": X, "y": Y[:, None]}, r"array 'y' .* must have shape \(6,\), one label per image, got \(6, 1\)"),
        ({"x": X, "y": Y[:5]}, r"array 'y' .* must have shape \(6,\), one label per image, got \(5,\)"),
        ({"x": X, "y": Y - 1}, "array 'y' .* must hold labels from 0 on, got -1"),
        ({"x": X, "y": Y + 2, "classes": ["a", "b"]}, "array 'y' .* must hold labels below the 2 classes, got 3"),
        ({"x": X, "y": Y, "classes": [1, 2]}, "array 'classes' .* must be a list of strings, got int64"),
        ({"x": X, "y": Y, "classes": [["a", "b"]]}, "array 'classes' .* must be a list of strings"),
        ({"x": X, "y": Y, "classes": ["a", "a"]}, "array 'classes' .* must hold distinct, printable names"),
        ({"x": X, "y": Y, "classes": ["a", "b\n"]}, "array 'classes' .* must hold distinct, printable names"),
        (
            {"x_train": X, "y_train": Y, "x_test": X[:, :4], "y_test": Y},
            r"all images of '.*bad.npz' must have one shape, got {'x_train': \(5, 4, 1\), 'x_test': \(4, 4, 1\)}",
        ),
        (
            {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 1, "classes": ["a", "b"]},
            "array 'y_test' .* must hold labels below the 2 classes, got 2",
        ),
    ],
)
def test_arrays_that_break_a_rule_are_named(tmp_path, arrays, rule):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(errors.ConfigError, match=rule):
        source_kinds.open_source(tmp_path / "bad.npz")


def test_python_objects_in_arrays_are_never_loaded(tmp_path):
    np.savez(tmp_path / "bad.npz", x=X, y=np.array([{}] * 6, object), allow_pickle=True)
    with pytest.raises(errors.ConfigError, match=r"array 'y' .* must hold numbers or strings, not Python objects"):
        source_kinds.open_source(tmp_path / "bad.npz")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 broken"])
def test_what_is_no_npz_file_is_named(tmp_path, content):
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(errors.ConfigError, match=r"'.*bad.npz' must be an .npz file"):
        source_kinds.open_source(tmp_path / "bad.npz")


def test_channels_must_be_those_of_the_arrays(npz):
    with pytest.raises(errors.ConfigError, match=r"channels must be left out or 1, as in '.*numbers.npz', got 3"):
        source_kinds.open_source(npz, 3)


def test_a_damaged_npz_is_named(npz):
    data = bytearray(npz.read_bytes())
    data[300] ^= 0xFF
    npz.write_bytes(bytes(data))
    with pytest.raises(errors.ConfigError, match=r"'.*numbers.npz' must be an .npz file"):
        source_kinds.open_source(npz)


def test_all_formats_that_pillow_reads_are_images(tree):
    Image.new("RGB", (6, 8)).save(tree / "cats" / "a.webp")
    source = source_kinds.open_source(tree)
    assert source.read(source.items[10]).change == "webp to png"
