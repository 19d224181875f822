"""`imagetrain data pack` of every kind of source, with the options that describe it."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from imagetrain_client.cli import main


@pytest.fixture
def photos(tmp_path):
    """Forty different gray PNGs in one folder, and their paths."""
    random = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(40):
        Image.fromarray(random.integers(0, 256, (6, 5), np.uint8)).save(tmp_path / "photos" / f"{number:02}.png")
    return [f"photos/{number:02}.png" for number in range(40)]


def pack(source, tmp_path, *options):
    return main.run_command(["data", "pack", str(source), str(tmp_path / "set"), *options])


def test_a_list_with_columns_of_other_names(photos, tmp_path, capsys):
    lines = ["file,species,part,patient"]
    for number, path in enumerate(photos):
        part = "test" if number < 8 else "train" if number < 32 else "val"
        lines.append(f"{path},{'cat' if number % 2 else 'dog'},{part},{number // 2}")
    (tmp_path / "list.txt").write_text("\n".join(lines))
    columns = ("--path-column", "file", "--label-column", "species", "--split-column", "part")
    code = pack(tmp_path / "list.txt", tmp_path, "--format", "csv", *columns, "--group-column", "patient")
    assert code == 0, capsys.readouterr().err
    assert "2 classes, train 24, validation 8, test 8" in capsys.readouterr().out


def test_a_missing_column_is_one_line_that_names_the_option(photos, tmp_path, capsys):
    (tmp_path / "list.csv").write_text("file,label\n" + "".join(f"{path},a\n" for path in photos))
    assert pack(tmp_path / "list.csv", tmp_path) == 100
    shown = capsys.readouterr().err
    assert "list.csv' must name a column 'path', got file, label" in shown
    assert "--path-column" in shown
    assert shown.count("\n") == 1


def test_tar_shards(photos, tmp_path, capsys):
    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars" / "pets-0.tar", "w") as tar:
        for number, path in enumerate(photos):
            for name, body in (
                (f"{number}.png", (tmp_path / path).read_bytes()),
                (f"{number}.cls", b"%d" % (number % 2)),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(body)
                tar.addfile(info, io.BytesIO(body))
    assert pack(tmp_path / "tars", tmp_path) == 0
    assert "2 classes, train 24, validation 8, test 8" in capsys.readouterr().out


def test_a_format_that_there_is_not_is_refused(photos, tmp_path, capsys):
    assert pack(tmp_path / "photos", tmp_path, "--format", "zip") in (2, 100)
    assert "tree" in capsys.readouterr().err


def test_choices_for_odd_images(tmp_path, capsys):
    random = np.random.default_rng(1)
    for name in ("cat", "dog"):
        (tmp_path / "tree" / name).mkdir(parents=True)
        for number in range(10):
            deep = Image.fromarray(random.integers(0, 65536, (6, 5), np.uint16))
            deep.save(tmp_path / "tree" / name / f"deep{number}.png")
            moving = [Image.fromarray(random.integers(0, 256, (6, 5), np.uint8)) for _ in range(2)]
            moving[0].save(tmp_path / "tree" / name / f"moving{number}.gif", save_all=True, append_images=moving[1:])
            clear = Image.fromarray(random.integers(0, 256, (6, 5, 2), np.uint8), "LA")
            clear.save(tmp_path / "tree" / name / f"clear{number}.png")
    assert pack(tmp_path / "tree", tmp_path) == 100
    assert "pack with --" in capsys.readouterr().err
    choices = ("--sixteen-bit", "scale", "--animated", "first", "--alpha", "black", "--channels", "3")
    assert pack(tmp_path / "tree", tmp_path, *choices) == 0
    shown = capsys.readouterr().out
    for line in ("converted 16 bit to 8 bit: 20", "converted alpha laid on black: 20", "first frame taken"):
        assert line in shown
