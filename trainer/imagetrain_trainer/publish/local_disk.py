"""Local scratch space: a folder of its own for one attempt, and a full disk told from other failures."""

import contextlib
import errno
import pathlib
import shutil
from collections.abc import Iterator

from imagetrain_trainer import errors

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_DISK_FULL_TEXT = "No space left on device"  # TensorFlow's writers keep the text of the errno, not its number


@contextlib.contextmanager
def empty_folder(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Give the block an empty folder, whatever an earlier attempt left there.

    Raises:
        DiskFullError: the block, or making the folder, found no space left.
    """
    with translate_disk_full(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        yield folder


@contextlib.contextmanager
def translate_disk_full(folder: pathlib.Path) -> Iterator[None]:
    """Turn what the block raises for want of space into DiskFullError."""
    try:
        yield
    except errors.TrainerError:
        raise
    except Exception as error:
        if getattr(error, "errno", None) in _DISK_FULL or _DISK_FULL_TEXT in str(error):
            raise errors.DiskFullError(
                f"{folder} must have room for the exported models, but its disk is full. Free space or name another "
                "work folder, then resume."
            ) from error
        raise
