"""The arrays of an .npz file: what is read, and how what is wrong is named."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.data import npz_source, sources


def test_arrays_of_one_set(npz, arrays):
    source = npz_source.NpzSource(str(npz))
    assert source.name == "numbers"
    assert source.class_names == ("0", "1", "2")
    entries = list(source.entries())
    assert entries[7] == sources.Entry("x[7]", "1", None, None, "x[7]")
    np.testing.assert_array_equal(source.read("x[7]"), arrays["x"][7][..., None])
    assert source.describe("x[7]") == f"image x[7] of {str(npz)!r}"


def test_arrays_with_a_test_split_and_class_names(tmp_path, arrays):
    x, y = np.stack([arrays["x"]] * 3, -1), arrays["y"].astype(np.uint8)
    np.savez_compressed(
        tmp_path / "set.npz", x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:], classes=["a", "b", "c"]
    )
    source = npz_source.NpzSource(str(tmp_path / "set.npz"))
    assert source.class_names == ("a", "b", "c")
    entries = list(source.entries())
    assert {entry.given_split for entry in entries[:60]} == {None}
    assert entries[60] == sources.Entry("x_test[0]", "a", "test", None, "x_test[0]")
    np.testing.assert_array_equal(source.read("x_test[1]"), x[61])


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
        npz_source.NpzSource(str(tmp_path / "bad.npz"))


def test_python_objects_in_arrays_are_never_loaded(tmp_path):
    np.savez(tmp_path / "bad.npz", x=X, y=np.array([{}] * 6, object), allow_pickle=True)
    with pytest.raises(errors.ConfigError, match=r"array 'y' .* must hold numbers or strings, not Python objects"):
        npz_source.NpzSource(str(tmp_path / "bad.npz"))


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 broken"])
def test_what_is_no_npz_file_is_named(tmp_path, content):
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(errors.ConfigError, match=r"'.*bad.npz' must be an .npz file"):
        npz_source.NpzSource(str(tmp_path / "bad.npz"))


def test_a_damaged_npz_is_named(npz):
    data = bytearray(npz.read_bytes())
    data[300] ^= 0xFF
    npz.write_bytes(bytes(data))
    with pytest.raises(errors.ConfigError, match=r"'.*numbers.npz' must be an .npz file"):
        npz_source.NpzSource(str(npz))


def test_plain_arrays_are_mapped_and_others_loaded_in_each_process(tmp_path, arrays):
    x, y = arrays["x"], arrays["y"]
    for name, save, images in (
        ("mapped", np.savez, x),
        ("compressed", np.savez_compressed, x),
        ("fortran", np.savez, np.asfortranarray(x)),
    ):
        save(tmp_path / f"{name}.npz", x=images, y=y)
        source = pickle.loads(pickle.dumps(npz_source.NpzSource(str(tmp_path / f"{name}.npz"))))
        np.testing.assert_array_equal(source.read("x[89]"), x[89][..., None])
        assert isinstance(source._images["x"], np.memmap) == (name == "mapped")
        assert len(pickle.dumps(source)) < 1500


def test_other_members_of_the_archive_are_let_be(tmp_path):
    np.savez(tmp_path / "set.npz", x=X, y=Y)
    with zipfile.ZipFile(tmp_path / "set.npz", "a") as archive:
        archive.writestr("README.txt", "hello")
    assert len(list(npz_source.NpzSource(str(tmp_path / "set.npz")).entries())) == 6


def test_flipped_bytes_never_raise_anything_else(tmp_path):
    np.savez(tmp_path / "good.npz", x=X, y=Y)
    good, path = (tmp_path / "good.npz").read_bytes(), tmp_path / "bad.npz"
    for position in range(0, len(good), 3):
        path.write_bytes(good[:position] + bytes((good[position] ^ 0x41,)) + good[position + 1 :])
        try:
            list(npz_source.NpzSource(str(path)).entries())
        except errors.ConfigError as e:
            assert "bad.npz" in str(e)  # noqa: PT017 - a flip that changes nothing that is read is no error


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
def test_arrays_on_s3_are_read(arrays, s3_server, s3_bucket):
    out = io.BytesIO()
    np.savez(out, **arrays)
    s3_server.client().put_object(Bucket=s3_bucket, Key="sets/numbers.npz", Body=out.getvalue())
    source = npz_source.NpzSource(f"s3://{s3_bucket}/sets/numbers.npz")
    assert source.name == "numbers"
    assert len(list(source.entries())) == 90
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read("x[5]"), arrays["x"][5][..., None])
