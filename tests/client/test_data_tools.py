"""`imagetrain data verify`, `show`, `diff`, `latest` and `info` as a user meets them."""

import json

import numpy as np
import pytest
from PIL import Image

from imagetrain_client.cli import main
from imagetrain_trainer.data import pack


@pytest.fixture
def packed(tmp_path):
    """Two versions of one data set in folders; v2 has another split."""
    source = tmp_path / "shapes.npz"
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 5), np.uint8)
    np.savez(source, x=images, y=np.arange(40) % 2, classes=np.array(["circle", "square"]))
    for name, seed in (("v1", 0), ("v2", 1)):
        pack.pack(source, str(tmp_path / "x" / name), pack.PackOptions(seed=seed))
    return tmp_path / "x"


@pytest.fixture
def run(capsys):
    """Run a command; return its status, output and error output."""

    def command(*arguments):
        status = main.run_command(["data", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return command


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 0xFF
    path.write_bytes(data)


def test_a_whole_data_set_verifies_in_one_line(packed, run):
    status, out, err = run("verify", packed / "v1")
    assert (status, err) == (0, "")
    assert out.count("\n") == 1
    assert "whole; checked 7 objects, 40 records" in out
    assert "40 images decoded" in out


def test_a_damaged_data_set_names_shard_and_record_and_ends_with_101(packed, run):
    flip(packed / "v1/train/shard-00000.tfrecord", 30)
    (packed / "v1/test/shard-00000.index").unlink()
    status, out, _ = run("verify", packed / "v1")
    assert status == 101
    assert "objects are missing (1):\n  test/shard-00000.index must be there" in out
    assert "records are damaged (1):\n  train/shard-00000.tfrecord record 0 at offset 0 must match its CRC32C" in out
    assert "4 defects" in out
    status, out, _ = run("verify", packed / "v1", "--json")
    assert status == 101
    document = json.loads(out)
    assert document["isWhole"] is False
    assert document["defects"]["record"]["first"][0] == {
        "key": "train/shard-00000.tfrecord",
        "rule": "must match its CRC32C",
        "record": 0,
        "offset": 0,
    }


def test_more_than_twenty_defects_of_a_kind_are_counted(packed, run):
    path = packed / "v1/train/shard-00000.tfrecord"
    size = path.stat().st_size // 24
    for number in range(24):
        flip(path, number * size + size // 2)
    status, out, _ = run("verify", packed / "v1", "--sample", "0")
    assert status == 101
    assert "records are damaged (24):" in out
    assert "  and 4 more\n" in out
    assert out.count("train/shard-00000.tfrecord record") == 20


def test_what_is_no_data_set_is_not_found(tmp_path, run):
    status, _, err = run("verify", tmp_path)
    assert status == 105
    assert err.count("\n") == 1


def test_a_sheet_is_written_and_its_content_told(packed, run, tmp_path):
    status, out, _ = run("show", packed / "v1", "--count", "6", "--split", "test", "--output", tmp_path / "s.png")
    assert status == 0
    assert out.startswith(f"{tmp_path}/s.png: 6 of 8 test images of file://")
    assert "  circle: 3\n  square: 3\n" in out
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.format == "PNG"


def test_a_class_that_is_not_there_is_one_line(packed, run, tmp_path):
    status, _, err = run("show", packed / "v1", "--class", "oval", "--output", tmp_path / "s.png")
    assert status == 100
    assert err == "imagetrain: --class must be one of circle, square, got 'oval'.\n"


def test_equal_sets_end_with_0_and_different_ones_with_1(packed, run):
    status, out, _ = run("diff", packed / "v1", packed / "v1")
    assert (status, out.splitlines()[-1]) == (0, "identical: one digest")
    status, out, _ = run("diff", packed / "v1", packed / "v2")
    assert status == 1
    assert "images are in another split in B" in out
    assert "in all train -> test: " in out
    assert "LEAK: images of A's train split are in B's test split" in out
    status, out, _ = run("diff", packed / "v1", packed / "v2", "--json")
    assert status == 1
    assert json.loads(out)["records"]["moved"]["count"] > 0
    status, out, _ = run("diff", packed / "v1", packed / "v2", "--counts")
    assert (status, out.splitlines()[-1]) == (0, "the same classes and counts")


def test_latest_is_shown_set_and_followed(packed, run):
    status, _, err = run("latest", packed)
    assert status == 105
    assert "no version is the latest" in err
    assert run("latest", packed, "--set", "v2")[1] == f"file://{packed}/latest.json: v2 is the latest\n"
    assert run("latest", packed)[1].startswith("v2 sha256:")
    assert run("latest", packed, "--set", "v1")[1] == f"file://{packed}/latest.json: went back from v2 to v1\n"
    assert run("latest", packed, "--set", "v2")[1] == f"file://{packed}/latest.json: moved from v1 to v2\n"
    document = json.loads(run("latest", packed, "--set", "v2", "--json")[1])
    assert document["version"] == "v2"
    assert run("diff", packed / "latest", packed / "v2")[0] == 0
    assert run("verify", packed / "latest")[0] == 0
    status, _, err = run("latest", packed, "--set", "v9")
    assert status == 105
    assert "v9" in err
