"""The newest checkpoints on a worker's own disk, so that a restart in place reads nothing from object storage.

    WORK_DIR/checkpoints/step-000000001234/{state-*.safetensors, manifest.json}

A copy appears by a rename, whole. Nothing is synced to the disk: a copy outlives the training process, and one that a
crash of the machine has damaged fails its digest. Standard library alone: the supervisor lists the steps.
"""

import contextlib
import errno
import hashlib
import logging
import pathlib
import re
import secrets
import shutil
import threading
from collections.abc import Sequence

from imagetrain_api import names
from imagetrain_trainer import errors
from imagetrain_trainer.training import checkpoint_manifest

logger = logging.getLogger(__name__)

KEEP = 2  # the newest, and the one before: not every rank may have written the newest when one is killed
_FREE_FACTOR = 3  # a copy is made where this many fit, so that it never fills a disk that others write to
_FOLDER = re.compile(r"step-(\d{12})")
_UNFINISHED = ".unfinished-"


def local_steps(work_dir: pathlib.Path) -> tuple[int, ...]:
    """Return the steps that a worker has copies of, in order; an unreadable folder has none."""
    return tuple(sorted(_find_copies(work_dir / names.CHECKPOINTS_PREFIX)))


class LocalCopies:
    """The copies of one worker. One process at a time writes them; its threads take turns."""

    def __init__(self, work_dir: pathlib.Path) -> None:
        self._folder = work_dir / names.CHECKPOINTS_PREFIX
        self._has_warned = False
        self._writing = threading.Lock()
        self._remove_leftovers()

    def write(self, manifest: checkpoint_manifest.Manifest, files: Sequence[memoryview]) -> bool:
        """Keep a copy and let the oldest go; return whether there is one.

        A disk that is full, or nearly, gets no copy: object storage has the checkpoint anyway.
        """
        with self._writing:
            return self._write(manifest, files)

    def _write(self, manifest: checkpoint_manifest.Manifest, files: Sequence[memoryview]) -> bool:
        target = self._path(manifest.place.step)
        partial = self._folder / f"{_UNFINISHED}{secrets.token_hex(4)}"
        try:
            partial.mkdir(parents=True)
            _check_space(self._folder, _FREE_FACTOR * manifest.size_bytes)
            for shard, data in zip(manifest.shards, files, strict=True):
                (partial / shard.key).write_bytes(data)
            (partial / checkpoint_manifest.MANIFEST_KEY).write_bytes(manifest.encode())
            if target.exists():  # of an older generation
                target.rename(self._folder / f"{_UNFINISHED}{secrets.token_hex(4)}")
            partial.rename(target)
        except OSError as error:
            self._warn_once(error)
            return False
        finally:
            self._remove_leftovers()
        for step in sorted(_find_copies(self._folder))[:-KEEP]:
            self._remove(step)
        return True

    def read(self, step: int) -> tuple[checkpoint_manifest.Manifest, list[bytes]]:
        """Return a copy's manifest and the bytes of its shards, checked against their digests.

        Raises:
            ObjectNotFoundError: there is no copy of this step.
            DataCorruptError: it is damaged.
        """
        folder = self._path(step)
        path = folder / checkpoint_manifest.MANIFEST_KEY
        try:
            manifest = checkpoint_manifest.decode_manifest(path.read_bytes(), path.as_uri())
            parts = [(folder / shard.key).read_bytes() for shard in manifest.shards]
        except OSError as error:
            raise errors.ObjectNotFoundError(
                f"{folder} has no whole copy of a checkpoint: {error.strerror}."
            ) from error
        for shard, data in zip(manifest.shards, parts, strict=True):
            if len(data) != shard.size_bytes or hashlib.sha256(data).hexdigest() != shard.sha256:
                raise errors.DataCorruptError(f"{folder / shard.key} does not match the digest in its manifest.")
        return manifest, parts

    def discard_after(self, step: int) -> None:
        """Remove the copies of later steps: the run goes on from this one, and will write them anew."""
        for later in _find_copies(self._folder):
            if later > step:
                self._remove(later)

    def _path(self, step: int) -> pathlib.Path:
        return self._folder / f"step-{step:012d}"

    def _remove(self, step: int) -> None:
        # Renamed first: a half-removed copy must not look whole.
        doomed = self._folder / f"{_UNFINISHED}{secrets.token_hex(4)}"
        with contextlib.suppress(OSError):
            self._path(step).rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def _remove_leftovers(self) -> None:
        for leftover in self._folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _warn_once(self, error: OSError) -> None:
        if not self._has_warned:
            logger.warning(
                "No local copy of the checkpoint in %s: %s. Restarts read it from object storage.",
                self._folder,
                error.strerror or type(error).__name__,
            )
        self._has_warned = True


def _find_copies(folder: pathlib.Path) -> list[int]:
    try:
        found = [match for path in folder.iterdir() if (match := _FOLDER.fullmatch(path.name))]
        return [int(match[1]) for match in found if (folder / match[0] / checkpoint_manifest.MANIFEST_KEY).is_file()]
    except OSError:
        return []


def _check_space(folder: pathlib.Path, needed_bytes: int) -> None:
    if shutil.disk_usage(folder).free < needed_bytes:
        raise OSError(errno.ENOSPC, "No space left on device")
