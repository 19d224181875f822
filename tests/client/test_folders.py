import datetime as dt
import pathlib

import pytest

from imagetrain_client.executor import folders, run_ids
from imagetrain_trainer import errors


@pytest.mark.parametrize(
    ("environment", "root"),
    [
        ({"XDG_CACHE_HOME": "/cache"}, "/cache/imagetrain/runs"),
        ({"XDG_CACHE_HOME": "relative"}, f"{pathlib.Path.home()}/.cache/imagetrain/runs"),  # the XDG rule: passed over
        ({}, f"{pathlib.Path.home()}/.cache/imagetrain/runs"),
    ],
)
def test_runs_lie_in_the_cache(environment, root):
    assert folders.default_root(environment) == pathlib.Path(root)


def test_a_run_cannot_be_locked_twice(tmp_path):
    folder = folders.RunFolder(tmp_path / "run")
    with folder.locked(), pytest.raises(errors.ConfigError, match="another imagetrain command"), folder.locked():
        pass
    with folder.locked():
        pass


def test_a_new_config_forgets_old_outcomes(tmp_path):
    folder = folders.RunFolder(tmp_path / "run")
    folder.make(2)
    folder.outcome(1).write_text("{}")
    folder.write_config("new")
    assert folder.config.read_text() == "new"
    assert not folder.outcome(1).exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.ConfigError, match=r"file/run must be a folder for the run"):
        folders.RunFolder(tmp_path / "file" / "run").make(1)


def test_a_full_disk_is_told_as_such(tmp_path):
    with pytest.raises(errors.DiskFullError, match="Free space"), folders.translated(tmp_path):
        pathlib.Path("/dev/full").write_text("x")


def test_run_ids_sort_by_time_and_differ():
    first = run_ids.new_run_id(dt.datetime(2026, 11, 24, 10, 15, 0, tzinfo=dt.UTC))
    later = run_ids.new_run_id(dt.datetime(2026, 11, 24, 10, 15, 1, tzinfo=dt.UTC))
    assert first.startswith("20261124-101500-")
    assert first < later
    assert run_ids.check_run_id(first) == first


@pytest.mark.parametrize("text", ["job.yaml", "", "A", "-a", "../x", "a" * 64])
def test_what_is_no_run_id_is_refused(text):
    with pytest.raises(errors.ConfigError, match="put --resume behind the manifest"):
        run_ids.check_run_id(text)
