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


def test_packing_can_make_the_new_version_the_latest_but_never_an_older_one(packed, run, tmp_path):
    source, place = tmp_path / "shapes.npz", f"file://{packed}/latest.json"
    status, out, _ = run("pack", source, packed / "v9", "--latest")
    assert (status, out.splitlines()[-1]) == (0, f"{place}: v9 is the latest")
    status, out, _ = run("pack", source, packed / "v10", "--latest")
    assert (status, out.splitlines()[-1]) == (0, f"{place}: moved from v9 to v10")
    status, _, err = run("pack", source, packed / "v3", "--latest")
    assert status == 100
    assert "must not move back from v10 to v3 unasked" in err
    assert not (packed / "v3").exists()  # refused before any work
    status, _, err = run("pack", source, packed / "latest", "--latest")
    assert status == 100
    assert "destination must not be called latest" in err


def test_versions_below_a_prefix_are_listed(packed, run):
    status, out, _ = run("info", packed)
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()[:3]] == ["version", "v1", "v2"]
    assert f"No version is the latest: imagetrain data latest file://{packed}/ --set VERSION" in out
    run("latest", packed, "--set", "v2")
    (packed / "v1/dataset.json").write_text("{")
    _, out, _ = run("info", packed)
    assert "v2 (latest)      40        2" in out
    assert "must be a data set description" in out
    document = json.loads(run("info", packed, "--json")[1])
    assert document["latest"] == "v2"
    assert [version["version"] for version in document["versions"]] == ["v1", "v2"]


def test_the_version_behind_latest_is_described(packed, run):
    run("latest", packed, "--set", "v1")
    status, out, _ = run("info", packed / "latest")
    assert status == 0
    assert "version    v1 (latest)\n" in out
    assert json.loads(run("info", packed / "latest", "--json")[1])["version"] == "v1"


def test_sizes_duplicates_and_options_are_described(run, tmp_path):
    for number in range(12):
        folder = tmp_path / "tree" / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8 + number * 20, 8), (number * 20, 0, 0)).save(folder / f"{number}.png")
    assert run("pack", tmp_path / "tree", tmp_path / "set", "--encoding", "png")[0] == 0
    status, out, _ = run("info", tmp_path / "set")
    assert status == 0
    assert "longest side" in out
    assert "duplicates none" in out
    assert "packed by" in out
    document = json.loads(run("info", tmp_path / "set", "--json")[1])
    assert sum(bucket["images"] for bucket in document["sizeHistogram"]) == 12
    assert document["duplicates"] == {"images": 0, "acrossSplits": 0, "acrossClasses": 0}
