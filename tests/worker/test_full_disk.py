"""Full disks: a training process that cannot be started, or cannot even say why it ends."""

import errno
import shutil
import signal

import pytest

from imagetrain_api import exit_codes
from imagetrain_trainer.worker import generation

ExitCode = exit_codes.ExitCode


def test_work_folder_that_is_full_is_told_as_such_and_the_next_generation_tries_again(harness, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(generation.progress_block, "ProgressBlock", fail)
        harness.run("train")
        assert (harness.state, harness.link.told.exit_code) == ("ended", ExitCode.DISK_FULL)
        assert "No space left on device" in harness.link.told.message
    harness.run("train", 2)
    harness.tick_until(lambda: harness.state == "running")
    harness.made._generation.kill()


@pytest.mark.parametrize(
    ("action", "free_bytes", "reason"),
    [
        ("exit:1", 0, ExitCode.DISK_FULL),  # not even its outcome could be written
        (f"kill:{signal.SIGBUS.value}", 0, ExitCode.DISK_FULL),  # a page of a mapped file found no room
        ("exit:1", 1 << 30, ExitCode.INTERNAL),
        (f"kill:{signal.SIGBUS.value}", 1 << 30, -signal.SIGBUS),
        (f"kill:{signal.SIGTERM.value}", 0, -signal.SIGTERM),
    ],
)
def test_process_that_ended_for_want_of_space_says_so(harness, monkeypatch, action, free_bytes, reason) -> None:
    usage = shutil.disk_usage(harness.made._worker.work_dir)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage._replace(free=free_bytes))
    harness.run(action)
    harness.tick_until(lambda: harness.state == "ended")
    assert harness.link.told.exit_code == reason
    assert ("no space is left in" in harness.link.told.message) == (reason == ExitCode.DISK_FULL)
