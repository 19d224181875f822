import errno
import logging
import pathlib
import shutil
import types

import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.training import checkpoint_manifest, checkpoints, local_copies


def made(step: int, data: bytes = b"state") -> tuple[checkpoint_manifest.Manifest, list[memoryview]]:
    shard = checkpoints.describe_shard(checkpoint_manifest.state_key(0, 1), data)
    place = checkpoint_manifest.Place(step, 1)
    manifest = checkpoint_manifest.Manifest(place=place, job="j", workers=1, shards=(shard,), host={"step": step})
    return manifest, [memoryview(data)]


def test_copy_is_read_back_and_the_newest_two_stay(tmp_path: pathlib.Path) -> None:
    copies = local_copies.LocalCopies(tmp_path)
    for step in (10, 20, 30):
        assert copies.write(*made(step, b"%d" % step))
    assert local_copies.local_steps(tmp_path) == (20, 30)
    manifest, parts = copies.read(30)
    assert (manifest, parts) == (made(30, b"30")[0], [b"30"])
    with pytest.raises(errors.ObjectNotFoundError):
        copies.read(10)


def test_worker_without_copies_has_no_steps(tmp_path: pathlib.Path) -> None:
    assert local_copies.local_steps(tmp_path / "nowhere") == ()


def test_copy_of_an_older_generation_is_replaced(tmp_path: pathlib.Path) -> None:
    copies = local_copies.LocalCopies(tmp_path)
    copies.write(*made(10, b"old"))
    copies.write(*made(10, b"new"))
    assert copies.read(10)[1] == [b"new"]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000000000010"]


def test_damaged_copy_is_told_from_a_missing_one(tmp_path: pathlib.Path) -> None:
    copies = local_copies.LocalCopies(tmp_path)
    copies.write(*made(10))
    folder = tmp_path / "checkpoints" / "step-000000000010"
    state = next(folder.glob("state-*"))
    state.write_bytes(b"stale")
    with pytest.raises(errors.DataCorruptError, match="does not match the digest"):
        copies.read(10)
    state.unlink()
    with pytest.raises(errors.ObjectNotFoundError):
        copies.read(10)


def test_what_a_killed_writer_left_is_no_copy_and_goes(tmp_path: pathlib.Path) -> None:
    leftover = tmp_path / "checkpoints" / ".unfinished-0"
    leftover.mkdir(parents=True)
    (leftover / "manifest.json").write_bytes(made(10)[0].encode())
    assert local_copies.local_steps(tmp_path) == ()
    local_copies.LocalCopies(tmp_path)
    assert not leftover.exists()


def test_later_copies_go_when_the_run_falls_back(tmp_path: pathlib.Path) -> None:
    copies = local_copies.LocalCopies(tmp_path)
    copies.write(*made(10))
    copies.write(*made(20))
    copies.discard_after(10)
    assert local_copies.local_steps(tmp_path) == (10,)


def test_nearly_full_disk_gets_no_copy_and_one_warning(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    copies = local_copies.LocalCopies(tmp_path)
    copies.write(*made(10))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=14))
    with caplog.at_level(logging.WARNING):
        assert not copies.write(*made(20))
        assert not copies.write(*made(30))
    assert [record.message for record in caplog.records if "No space left" in record.message] == [caplog.messages[0]]
    assert local_copies.local_steps(tmp_path) == (10,)


def test_disk_that_fills_up_within_a_copy_leaves_nothing_of_it(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = local_copies.LocalCopies(tmp_path)

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_bytes", refuse)
    assert not copies.write(*made(10))
    assert list((tmp_path / "checkpoints").iterdir()) == []
