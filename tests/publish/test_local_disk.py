import errno

import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.publish import local_disk


def test_the_folder_is_emptied_first(tmp_path):
    (tmp_path / "publish" / "old").mkdir(parents=True)
    with local_disk.empty_folder(tmp_path / "publish") as folder:
        assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "failure",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "quota"),
        RuntimeError("x: No space left on device"),
    ],
)
def test_a_full_disk_is_told_from_other_failures(tmp_path, failure):
    with (
        pytest.raises(errors.DiskFullError, match="must have room for the exported models"),
        local_disk.empty_folder(tmp_path / "a"),
    ):
        raise failure


@pytest.mark.parametrize(
    "failure", [OSError(errno.EIO, "broken"), errors.ConfigError("No space left on device?"), KeyError("x")]
)
def test_other_failures_pass(tmp_path, failure):
    with pytest.raises(type(failure)) as caught, local_disk.empty_folder(tmp_path / "a"):
        raise failure
    assert caught.value is failure
