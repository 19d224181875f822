"""What is particular to a store in a folder: atomic writes, full disks, permissions."""

import concurrent.futures
import errno
import fcntl
import os
import pathlib
import subprocess
import sys

import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.storage import local, store


def test_a_path_with_spaces_is_a_store(tmp_path):
    objects = store.open_store(str(tmp_path / "a folder"))
    objects.put("x", b"1")
    assert (tmp_path / "a folder" / "x").read_bytes() == b"1"
    assert objects.uri == f"file://{tmp_path}/a%20folder/"


def test_a_file_uri_and_its_path_are_the_same_store(tmp_path):
    store.open_store(f"file://{tmp_path}/root/").put("x", b"1")
    assert store.open_store(str(tmp_path / "root")).get("x") == b"1"


def test_a_full_disk_is_named_and_leaves_no_partial_file():
    if not pathlib.Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with (
        pytest.raises(errors.DiskFullError, match="no space is left"),
        local.translate_os_errors("file:///x", "write"),
        pathlib.Path("/dev/full").open("wb") as file,
    ):
        file.write(b"1" * 10_000_000)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_keeps_the_old_object(tmp_path, monkeypatch, number):
    objects = store.open_store(str(tmp_path))
    objects.put("a", b"old")

    def fail(_):
        raise OSError(number, "full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(errors.DiskFullError, match=f"cannot write {objects.uri}a: no space is left"):
        objects.put("a", b"new")
    assert objects.get("a") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_partial_file_of_a_killed_writer_is_not_an_object(tmp_path):
    objects = store.open_store(str(tmp_path))
    (tmp_path / "a#123").write_bytes(b"half")
    assert list(objects.list()) == []


WRITER = """
import pathlib, signal, sys
from imagetrain_trainer.storage import local
with local.write_atomically(pathlib.Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    signal.pause()
"""


@pytest.fixture
def writer(tmp_path):
    """A process that is at writing `folder/a`."""
    (tmp_path / "folder").mkdir()
    command = [sys.executable, "-c", WRITER, str(tmp_path / "folder" / "a")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        yield process
        process.kill()


def test_what_a_killed_writer_left_is_removed_and_what_is_being_written_stays(tmp_path, writer):
    objects = store.open_store(str(tmp_path))
    objects.put("b", b"whole")
    objects.remove_partial_writes()
    (partial,) = (tmp_path / "folder").iterdir()
    assert partial.read_bytes() == b"half"
    writer.kill()
    writer.wait()
    objects.remove_partial_writes()
    assert list((tmp_path / "folder").iterdir()) == []
    assert objects.get("b") == b"whole"


def test_a_swap_removes_what_killed_swaps_of_the_same_object_left(tmp_path):
    objects = store.open_store(str(tmp_path))
    etag = objects.put("latest.json", b"0").etag
    for name in ("latest.json#123", "latest.json#lock", "latest.jsonl#9"):
        (tmp_path / name).write_bytes(b"half")
    objects.put_if_match("latest.json", b"1", etag)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest.json", "latest.jsonl#9"]


def test_a_writer_whose_new_file_is_removed_before_it_holds_it_takes_another(tmp_path, monkeypatch):
    taken = []

    def lock(file, operation):
        if not taken:
            (partial,) = tmp_path.iterdir()
            partial.unlink()
        taken.append(operation)

    monkeypatch.setattr(fcntl, "flock", lock)
    store.open_store(str(tmp_path)).put("a", b"1")
    assert len(taken) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EACCES, errors.AccessDeniedError),
        (errno.EROFS, errors.AccessDeniedError),
        (errno.ENOENT, errors.ObjectNotFoundError),
        (errno.EISDIR, errors.ObjectNotFoundError),
        (errno.EIO, errors.StorageUnavailableError),
        (errno.EEXIST, errors.ObjectExistsError),
    ],
)
def test_each_system_error_has_its_type(number, expected):
    with pytest.raises(expected, match="file:///x"), local.translate_os_errors("file:///x", "read"):
        raise OSError(number, os.strerror(number))


def test_of_many_swaps_one_wins(tmp_path):
    objects = store.open_store(str(tmp_path))
    etag = objects.put("latest.json", b"0").etag

    def swap(number):
        try:
            objects.put_if_match("latest.json", b"%d" % number, etag)
        except errors.ObjectExistsError:
            return None
        return number

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(swap, range(16)) if number is not None]
    assert len(winners) == 1
    assert objects.get("latest.json") == b"%d" % winners[0]
    assert [path.name for path in tmp_path.iterdir()] == ["latest.json"]


def test_a_folder_is_not_an_object(tmp_path):
    objects = store.open_store(str(tmp_path))
    objects.put("a/b", b"1")
    for call in (objects.head, objects.get):
        with pytest.raises(errors.ObjectNotFoundError):
            call("a")
