"""A pack that was killed, failed or stopped goes on behind its last finished shard, and gives the same bytes."""

import contextlib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import packing_sources
from imagetrain_trainer import errors
from imagetrain_trainer.data import info, pack, pack_folder, reader
from imagetrain_trainer.storage import local, store

DEADLINE_SECONDS = 60
MARK = "PACK_TEST_FOLDER"
ENTRIES = packing_sources.make_entries(120, 80, 60)
OPTIONS = {"shard_size_bytes": 1024, "seed": 4}

PROGRAM = """
import os, pathlib, signal, sys
import packing_sources
from imagetrain_trainer.data import pack
def die(progress):
    print(progress, flush=True)
    if progress.stage == "pack" and progress.done >= int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
options = pack.PackOptions(
    shard_size_bytes=1024, seed=4, processes=int(sys.argv[3]), work_dir=pathlib.Path(sys.argv[2])
)
source = packing_sources.TableSource(packing_sources.make_entries(120, 80, 60))
pack.pack(source, sys.argv[1], options, die)
"""


def contents(folder):
    root = pathlib.Path(folder)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def start(destination, work, *, processes=1, die_at=10**9):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), MARK: str(pathlib.Path(work).parent)}
    arguments = [str(destination), str(work), str(processes), str(die_at)]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], env=environment, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def pack_table(tmp_path):
    """Return a function that packs the table with the options given, in this process unless they say otherwise."""

    def run(destination, entries=ENTRIES, on_progress=None, **options):
        chosen = pack.PackOptions(**({"processes": 1, "work_dir": tmp_path / "work"} | OPTIONS | options))
        return pack.pack(packing_sources.TableSource(entries), str(destination), chosen, on_progress)

    return run


@pytest.fixture
def undisturbed(pack_table, tmp_path):
    pack_table(tmp_path / "clean", work_dir=tmp_path / "clean-work")
    return contents(tmp_path / "clean")


@pytest.mark.parametrize("die_at", [0, 1, 100, 259, 260])
def test_a_killed_pack_is_invisible_and_goes_on(pack_table, undisturbed, tmp_path, die_at):
    with start(tmp_path / "out", tmp_path / "work", die_at=die_at) as process:
        assert process.wait(DEADLINE_SECONDS) == -signal.SIGKILL
    with pytest.raises(errors.ObjectNotFoundError, match="holds no packed data set"):
        info.describe(str(tmp_path / "out"))
    summary = pack_table(tmp_path / "out")
    assert contents(tmp_path / "out") == undisturbed
    assert summary.resumed > 0 or die_at < 100
    assert not (tmp_path / "work").exists()


def test_kills_at_random_moments_change_nothing(pack_table, undisturbed, tmp_path):
    """Ten kills, most of them of a pack that goes on from the last one; benchmarks/pack_kill.py does a hundred."""
    moments = random.Random(7)
    for _ in range(10):
        with start(tmp_path / "out", tmp_path / "work", processes=moments.choice([1, 2])) as process:
            for _ in range(moments.randint(0, 6)):
                process.stdout.readline()  # of progress
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(moments.uniform(0.0, 0.05))
            process.kill()
            process.wait(DEADLINE_SECONDS)
        if (tmp_path / "out" / "dataset.json").exists():
            assert contents(tmp_path / "out") == undisturbed
            shutil.rmtree(tmp_path / "out")
    pack_table(tmp_path / "out")
    assert contents(tmp_path / "out") == undisturbed


def test_workers_do_not_outlive_a_killed_pack(tmp_path):
    with start(tmp_path / "out", tmp_path / "work", processes=2, die_at=0) as process:
        assert process.wait(DEADLINE_SECONDS) == -signal.SIGKILL
    deadline = time.monotonic() + DEADLINE_SECONDS
    while list(find_processes(f"{MARK}={tmp_path}")):
        assert time.monotonic() < deadline
        threading.Event().wait(0.05)


def find_processes(setting):
    """Yield the ids of the processes with this setting in their environment, as `start` leaves it."""
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if setting.encode() in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)
        except OSError:  # it has ended, or is another user's
            continue


def test_an_interrupted_pack_ends_at_once_and_goes_on(pack_table, undisturbed, tmp_path):
    def interrupt(progress):
        if progress.stage == "pack" and progress.done > 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_table(tmp_path / "out", on_progress=interrupt, processes=2)
    assert pack_table(tmp_path / "out").resumed > 0
    assert contents(tmp_path / "out") == undisturbed


def test_a_killed_worker_is_named(pack_table, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setenv(MARK, str(tmp_path))

    def kill(progress):
        if progress.stage == "pack" and progress.done == 16:
            # This process had its environment set after its start, which /proc does not show.
            os.kill(next(find_processes(f"{MARK}={tmp_path}")), signal.SIGKILL)

    with pytest.raises(errors.ConfigError, match=r"ended with status -9.* with fewer --processes"):
        pack_table(tmp_path / "out", on_progress=kill, processes=2)
    pack_table(tmp_path / "out", processes=2)
    assert contents(tmp_path / "out") == undisturbed


@pytest.mark.parametrize("failing", [1, 5, 12])
def test_a_pack_whose_destination_fails_goes_on(pack_table, undisturbed, tmp_path, monkeypatch, failing):
    put, calls = local.LocalStore.put, []

    def fail(self, key, data, **options):
        calls.append(key)
        if sum(key.endswith(".tfrecord") for key in calls) >= failing:
            raise errors.DiskFullError(f"no space is left for {key}")
        return put(self, key, data, **options)

    with monkeypatch.context() as patch:
        patch.setattr(local.LocalStore, "put", fail)
        with pytest.raises(errors.DiskFullError, match=r"no space is left for train/shard-"):
            pack_table(tmp_path / "out")
    summary = pack_table(tmp_path / "out")
    assert contents(tmp_path / "out") == undisturbed
    assert (summary.resumed > 0) == (failing > 2)  # two are written at a time


def fail_at(position):
    """Return a callback that ends a pack as a crash would when that many images are done."""

    def callback(progress):
        if progress.stage == "pack" and progress.done >= position:
            raise RuntimeError("crash")

    return callback


@pytest.fixture
def half_done(pack_table, tmp_path):
    """A destination that a pack filled half before it crashed."""
    with pytest.raises(RuntimeError, match="crash"):
        pack_table(tmp_path / "out", on_progress=fail_at(150))
    return tmp_path / "out"


@pytest.mark.parametrize("damage", ["deleted", "rewritten", "index deleted", "everything deleted"])
def test_shards_that_are_no_longer_there_are_written_again(pack_table, undisturbed, half_done, damage):
    paths = sorted(half_done.rglob("*.index" if damage == "index deleted" else "*.tfrecord"))
    if damage == "everything deleted":
        shutil.rmtree(half_done)
    elif damage == "rewritten":
        paths[3].write_bytes(paths[3].read_bytes()[::-1])
    else:
        paths[3].unlink()
    summary = pack_table(half_done)
    assert (summary.resumed > 0) == (damage != "everything deleted")
    assert contents(half_done) == undisturbed


@pytest.mark.parametrize("changed", [{"seed": 5}, {"shard_size_bytes": 2048}, {"ratios": (8, 1, 1)}, {"restart": True}])
def test_other_options_begin_anew(pack_table, half_done, tmp_path, changed):
    assert pack_table(half_done, **changed).resumed == 0
    pack_table(tmp_path / "other", **changed)
    assert contents(half_done) == contents(tmp_path / "other")


def test_another_source_begins_anew(pack_table, half_done, tmp_path):
    assert pack_table(half_done, ENTRIES[1:]).resumed == 0
    pack_table(tmp_path / "other", ENTRIES[1:])
    assert contents(half_done) == contents(tmp_path / "other")


def test_options_that_shape_no_bytes_may_change(pack_table, half_done, undisturbed):
    assert pack_table(half_done, skip_bad=True, allow_leakage=True, processes=2).resumed > 0
    assert contents(half_done) == undisturbed


def test_a_damaged_work_folder_is_named(pack_table, half_done, tmp_path):
    path = tmp_path / "work" / "journal.sqlite"
    path.write_bytes(b"x" * 10_000)
    with pytest.raises(errors.ConfigError, match=r"journal.sqlite' must be whole and writable.* Delete its folder"):
        pack_table(half_done)


def test_a_work_folder_serves_one_pack(pack_table, tmp_path):
    with (
        pack_folder.open_folder(tmp_path / "work"),
        pytest.raises(errors.ConfigError, match="must be used by one pack at a time"),
    ):
        pack_table(tmp_path / "out")


def test_a_folder_of_something_else_is_no_work_folder(pack_table, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").write_text("x")
    with pytest.raises(errors.ConfigError, match=r"must hold nothing else, got 'thesis.tex'"):
        pack_table(tmp_path / "out")


def test_refused_images_are_remembered(pack_table, tmp_path):
    entries = [entry._replace(locator=f"bad {i}") if i % 9 == 0 else entry for i, entry in enumerate(ENTRIES)]
    clean = pack_table(tmp_path / "clean", entries, skip_bad=True)
    with pytest.raises(RuntimeError, match="crash"):
        pack_table(tmp_path / "out", entries, fail_at(200), skip_bad=True)
    with pytest.raises(errors.ConfigError, match=r"'bad \d+' must be an image that Pillow can read.*--skip-bad"):
        pack_table(tmp_path / "out", entries)
    summary = pack_table(tmp_path / "out", entries, skip_bad=True)
    assert summary.resumed > 0
    assert summary.skipped == clean.skipped
    assert summary.skipped_count == 29
    assert contents(tmp_path / "out") == contents(tmp_path / "clean")


def test_a_split_may_end_in_refused_images(pack_table, tmp_path):
    """The last ones of the train split are refused, whichever they are."""
    pack_table(tmp_path / "first")
    with reader.DatasetReader(store.open_store(str(tmp_path / "first")), "train") as records:
        last = set(records.read(np.arange(records.records - 12, records.records)).keys)
    entries = [entry._replace(locator="bad") if entry.key in last else entry for entry in ENTRIES]
    summary = pack_table(tmp_path / "out", entries, skip_bad=True, processes=2)
    assert summary.skipped_count == 12
    assert summary.dataset.records == len(ENTRIES) - 12


def test_a_source_whose_storage_fails_is_no_refusal(pack_table, tmp_path):
    entries = [*ENTRIES[:-1], ENTRIES[-1]._replace(locator="lost")]
    with pytest.raises(errors.StorageUnavailableError, match="s3://photos/lost cannot be read"):
        pack_table(tmp_path / "out", entries, skip_bad=True, processes=2)


def test_a_killed_pack_to_a_bucket_goes_on(versitygw_s3, monkeypatch, pack_table, undisturbed):
    for name, value in versitygw_s3.environment().items():
        monkeypatch.setenv(name, value)
    uri = f"s3://{versitygw_s3.create_bucket('resumed-pack')}/table/v1/"
    with pytest.raises(RuntimeError, match="crash"):
        pack_table(uri, on_progress=fail_at(150))
    assert pack_table(uri).resumed > 0
    objects = store.open_store(uri)
    assert {info.key: objects.get(info.key) for info in objects.list()} == undisturbed
