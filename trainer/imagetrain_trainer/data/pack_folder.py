"""The work folder of a pack: its list and its journal, and the lock that keeps it to one pack at a time."""

import contextlib
import dataclasses
import fcntl
import hashlib
import pathlib
from collections.abc import Iterator, Mapping

from imagetrain_trainer import errors

_LIST, _JOURNAL, _LOCK = "list.sqlite", "journal.sqlite", "lock"
_NAME_DIGITS = 16


@dataclasses.dataclass(frozen=True, slots=True)
class WorkFolder:
    """Paths of one pack's work."""

    path: pathlib.Path

    @property
    def list(self) -> pathlib.Path:
        """The work list, there when it is complete."""
        return self.path / _LIST

    @property
    def journal(self) -> pathlib.Path:
        """The journal."""
        return self.path / _JOURNAL

    def clear(self) -> None:
        """Remove the list and the journal."""
        for path in self.path.iterdir():
            if path.name.startswith((_LIST, _JOURNAL)):
                path.unlink()


def default_root(environment: Mapping[str, str]) -> pathlib.Path:
    """Return the folder of all packs' work: `$XDG_CACHE_HOME/imagetrain/pack`, by default under `~/.cache`."""
    cache = environment.get("XDG_CACHE_HOME", "")
    base = pathlib.Path(cache) if cache.startswith("/") else pathlib.Path.home() / ".cache"
    return base / "imagetrain" / "pack"


def default_path(root: pathlib.Path, destination: str) -> pathlib.Path:
    """Return the folder below `root` of the one pack that may write to a destination."""
    digest = hashlib.sha256(destination.encode("utf-8", "surrogateescape")).hexdigest()
    return root / digest[:_NAME_DIGITS]


@contextlib.contextmanager
def open_folder(path: pathlib.Path) -> Iterator[WorkFolder]:
    """Make the folder and lock it; what is in it stays.

    Raises:
        errors.ConfigError: another pack works in it, it cannot be written, or it holds something else.
    """
    folder = WorkFolder(path.absolute())
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        others = [entry.name for entry in folder.path.iterdir() if not entry.name.startswith((_LIST, _JOURNAL, _LOCK))]
        if others:
            raise errors.ConfigError(f"work folder {str(path)!r} must hold nothing else, got {min(others)!r}.")
        lock = (folder.path / _LOCK).open("w")
    except OSError as e:
        raise errors.ConfigError(
            f"work folder {str(path)!r} must be a folder that can be written ({e.strerror}). Pack with --work-dir."
        ) from e
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise errors.ConfigError(
                f"work folder {str(path)!r} must be used by one pack at a time, and another one is at work there."
            ) from e
        yield folder


def remove(folder: WorkFolder) -> None:
    """Remove the folder of a pack that is done."""
    folder.clear()
    (folder.path / _LOCK).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty: not ours alone
        folder.path.rmdir()
