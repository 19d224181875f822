"""`imagetrain data` on real arrays and images."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from imagetrain_client.cli import main


@pytest.fixture
def arrays(tmp_path):
    path = tmp_path / "shapes.npz"
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (40, 6, 5), dtype=np.uint8)
    np.savez(path, x=images, y=np.arange(40) % 2, classes=np.array(["circle", "square"]))
    return path


@pytest.fixture
def tree(tmp_path):
    for number_of_class, label in enumerate(("cat", "dog")):
        folder = tmp_path / "tree" / label
        folder.mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (8, 8), (number * 20, number_of_class, 0)).save(folder / f"{number}.png")
    return tmp_path / "tree"


def test_arrays_are_packed_and_described(arrays, tmp_path, capsys):
    assert main.run_command(["data", "pack", str(arrays), str(tmp_path / "set"), "--split", "2:1:1"]) == 0
    assert "2 classes, train 20, validation 10, test 10" in capsys.readouterr().out
    assert main.run_command(["data", "info", str(tmp_path / "set")]) == 0
    shown = capsys.readouterr().out
    assert "images     40, 6 x 5 pixels, gray, raw" in shown
    assert "square         10          5          5  █" in shown
    assert main.run_command(["data", "info", str(tmp_path / "set"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == ["circle", "square"]


def test_a_destination_that_is_taken_is_one_line(arrays, tmp_path, capsys):
    assert main.run_command(["data", "pack", str(arrays), str(tmp_path / "set")]) == 0
    capsys.readouterr()
    assert main.run_command(["data", "pack", str(arrays), str(tmp_path / "set")]) == 100
    shown = capsys.readouterr().err
    assert "must not hold a data set" in shown
    assert shown.count("\n") == 1


def test_a_bad_image_is_named_or_skipped(tree, tmp_path, capsys):
    (tree / "cat" / "broken.png").write_bytes(b"\x89PNG no")
    assert main.run_command(["data", "pack", str(tree), str(tmp_path / "set")]) == 100
    assert "cat/broken.png" in capsys.readouterr().err
    assert main.run_command(["data", "pack", str(tree), str(tmp_path / "set"), "--skip-bad"]) == 0
    shown = capsys.readouterr().out
    assert "skipped 1:" in shown
    assert "cat/broken.png" in shown


def test_a_data_set_that_is_not_there_is_one_line(tmp_path, capsys):
    assert main.run_command(["data", "info", str(tmp_path)]) == 105
    assert "dataset.json" in capsys.readouterr().err


def test_an_interrupted_pack_says_how_to_go_on_and_does(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6000, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "many.npz", x=images, y=np.arange(6000) % 2)
    command = [
        *("env", "--default-signal=INT"),  # a shell's background jobs ignore it, and so would what these tests start
        *(sys.executable, "-m", "imagetrain_client.cli.main", "data", "pack", tmp_path / "many.npz", tmp_path / "set"),
        *("--shard-size", "4Ki", "--processes", "2", "--work-dir", tmp_path / "work"),
    ]
    # An interrupt within coverage's own lock would leave that locked for ever.
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=unmeasured) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("set/train/shard-00020.tfrecord")):
            assert time.monotonic() < deadline
            threading.Event().wait(0.01)
        process.send_signal(signal.SIGINT)
        _, shown = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Start the same command again: it goes on behind the last finished shard." in shown
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "images of an earlier run" in done.stdout
