"""The bytes behind a source: local files and s3:// objects, by one kind of name.

A place is a local path or `s3://bucket/key`. Everything here is picklable: a worker process opens stores of its own,
when it first needs them.
"""

import errno
import io
import os
import pathlib
import posixpath
import threading
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TypeVar

from imagetrain_api import uris
from imagetrain_trainer import errors
from imagetrain_trainer.data import image_limits, object_file
from imagetrain_trainer.storage import store

_Answer = TypeVar("_Answer")

_S3 = "s3://"
_BUFFER_BYTES = 1024 * 1024
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR})


CONCURRENT_READS = 16
"""Of small objects, by one process: a request of 100 ms then costs as much as 6 ms of decoding, about what it takes."""


def is_s3(place: str) -> bool:
    """Tell whether a place is an s3:// URI."""
    return place.startswith(_S3)


def parse(text: str) -> str:
    """Return the place that a user's text means: a path, a file:// or an s3:// URI.

    Raises:
        errors.ConfigError: it is no place.
    """
    if not text or "\0" in text:
        raise errors.ConfigError(f"source must be a path or an s3:// URI, got {text[:200]!r}.")
    if is_s3(text) or "://" not in text:
        return text
    try:
        return uris.parse_storage_uri(text).path
    except ValueError as e:
        raise errors.ConfigError(f"source must be a path or {e}, got {text[:200]!r}.") from e


def join(folder: str, name: str) -> str:
    """Return the place of `name` below a folder."""
    return f"{folder.rstrip('/')}/{name}" if is_s3(folder) else str(pathlib.Path(folder, name))


def split(place: str) -> tuple[str, str]:
    """Return the folder that holds a file, and the file's name."""
    if is_s3(place):
        folder, _, name = place.rpartition("/")
        return folder, name
    path = pathlib.Path(place)
    return str(path.parent), path.name


def base_name(folder: str) -> str:
    """Return the name of a folder, whatever it is called here; for a bucket, the bucket."""
    return folder.rstrip("/").rpartition("/")[2] if is_s3(folder) else pathlib.Path(folder).resolve().name


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder is the system's, and not part of the data."""
    return name.startswith(".") or name in {"Thumbs.db", "desktop.ini", "__MACOSX"}


class SourceFiles:
    """Reads places. Thread-safe."""

    def __init__(self, s3: store.S3Settings | None = None) -> None:
        """Open nothing yet.

        Args:
            s3: settings of s3:// places.
        """
        self._s3 = s3
        self._buckets: dict[str, store.ObjectStore] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"_s3": self._s3}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_s3"])  # type: ignore[misc]  # the constructor opens nothing

    def read(self, place: str) -> bytes:
        """Read a whole file.

        Raises:
            errors.ConfigError: it is not there, not readable or too large; the message names it.
            errors.StorageError: object storage failed.
        """
        if is_s3(place):
            bucket, key = self._find(place)
            return _translated(place, lambda: bucket.get(key))
        with _open_local(place) as file:
            size = os.fstat(file.fileno()).st_size
            if size > image_limits.MAX_FILE_BYTES:
                raise errors.ConfigError(
                    f"{place!r} must have at most {image_limits.MAX_FILE_BYTES} bytes, got {size}."
                )
            try:
                return file.read()
            except OSError as e:
                raise _unreadable(place, e) from e

    def read_range(self, place: str, start: int, length: int) -> bytes:
        """Read `length` bytes from byte `start` on; raises as `read`, also when the file ends before."""
        if is_s3(place):
            bucket, key = self._find(place)
            return _translated(place, lambda: bucket.get_range(key, start, length))
        with _open_local(place) as file:
            try:
                data = os.pread(file.fileno(), length, start)
            except OSError as e:
                raise _unreadable(place, e) from e
        if len(data) != length:
            raise _changed(place)
        return data

    def open(self, place: str) -> BinaryIO:
        """Open a file for reading from its start to its end; raises as `read`."""
        if not is_s3(place):
            return _open_local(place)
        bucket, key = self._find(place)
        size = _translated(place, lambda: bucket.head(key)).size_bytes
        raw = object_file.ObjectFile(lambda start, length: self.read_range(place, start, length), size)
        return io.BufferedReader(raw, _BUFFER_BYTES)

    def size(self, place: str) -> int:
        """Return a file's size in bytes; raises as `read`."""
        if is_s3(place):
            bucket, key = self._find(place)
            return _translated(place, lambda: bucket.head(key)).size_bytes
        with _open_local(place) as file:
            return os.fstat(file.fileno()).st_size

    def walk(self, folder: str) -> Iterator[str]:
        """Yield the names, from a folder on, of all files below it but hidden ones, sorted; raises as `read`.

        A local folder's names are in memory one folder at a time; an s3:// prefix is listed page by page.
        """
        if is_s3(folder):
            yield from self._walk_s3(folder)
        else:
            yield from _walk_local(pathlib.Path(folder), "")

    def folders(self, folder: str) -> list[str]:
        """Return the sorted names of the folders right below one, but hidden ones; raises as `read`."""
        if not is_s3(folder):
            return [name.rstrip("/") for name in _list_local(pathlib.Path(folder)) if name.endswith("/")]
        objects, prefix = self._find(folder, is_folder=True)
        names = _translated(folder, lambda: objects.list_folders(prefix))
        return [name for name in names if not is_hidden(name)]

    def _walk_s3(self, folder: str) -> Iterator[str]:
        objects, prefix = self._find(folder, is_folder=True)
        skipped, empty = len(prefix) + 1 if prefix else 0, ""
        for info in _translated(folder, lambda: objects.list(prefix)):
            name = info.key[skipped:]
            if empty and not name.startswith(f"{empty}/"):
                yield empty
            # An object `a/` of no bytes is how consoles make a folder. It comes first, and here without its slash.
            empty = ""
            if not name or any(map(is_hidden, name.split("/"))):
                continue
            if info.size_bytes:
                yield name
            else:
                empty = name
        if empty:
            yield empty

    def _find(self, place: str, *, is_folder: bool = False) -> tuple[store.ObjectStore, str]:
        """Return a place's bucket, opened, and its key in there."""
        name, _, key = place.removeprefix(_S3).partition("/")
        key = key.strip("/") if is_folder else key
        if not key and not is_folder:
            raise errors.ConfigError(f"{place!r} must name an object: s3://bucket/key.")
        with self._lock:
            if name not in self._buckets:
                self._buckets[name] = store.open_store(f"{_S3}{name}", self._s3)
            return self._buckets[name], key


def resolve(base: str, path: str) -> str:
    """Return the place that a text in a file means.

    Args:
        base: the folder that relative paths start from.
        path: relative, absolute or s3://.

    Raises:
        errors.ConfigError: it means none; the message is a rule, for the caller to prefix with the text's own place.
    """
    if not path or not path.isprintable():
        raise errors.ConfigError(f"must have a printable path, got {path[:80]!r}")
    if is_s3(path):
        return path
    if "://" in path:
        raise errors.ConfigError(f"must have a path or an s3:// URI, got {path[:80]!r}")
    if not is_s3(base):
        return os.path.normpath(os.path.join(base, path))  # noqa: PTH118 - ten times as fast as pathlib
    if path.startswith("/"):
        raise errors.ConfigError(
            f"must have a relative path or an s3:// URI, for the list itself lies on S3, got {path[:80]!r}"
        )
    bucket, _, prefix = base.removeprefix(_S3).partition("/")
    key = posixpath.normpath(f"{prefix}/{path}" if prefix else path)
    if key == ".." or key.startswith("../"):
        raise errors.ConfigError(f"must have a path in the bucket of the list, or an s3:// URI, got {path[:80]!r}")
    return f"{_S3}{bucket}/{key}"


def _open_local(place: str) -> BinaryIO:
    try:
        # Not to wait for a writer, should it be a pipe.
        descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as e:
        raise _unreadable(place, e) from e
    if not pathlib.Path(place).is_file():
        os.close(descriptor)
        raise errors.ConfigError(f"{place!r} must be a file, and it is a folder or a device.")
    return os.fdopen(descriptor, "rb", buffering=_BUFFER_BYTES)


def _walk_local(root: pathlib.Path, prefix: str) -> Iterator[str]:
    for name in _list_local(root / prefix):
        if name.endswith("/"):
            yield from _walk_local(root, prefix + name)
        else:
            yield prefix + name


def _list_local(folder: pathlib.Path) -> list[str]:
    """Return the sorted names in a folder but hidden ones, those of folders with a slash, so that whole paths sort."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name + "/" * entry.is_dir() for entry in entries if not is_hidden(entry.name))
    except OSError as e:
        raise errors.ConfigError(f"folder {str(folder)!r} must be readable ({e.strerror}).") from e


def _translated(place: str, call: Callable[[], _Answer]) -> _Answer:
    try:
        return call()
    except errors.ObjectNotFoundError as e:
        raise errors.ConfigError(f"{place!r} must exist, and it does not.") from e
    except errors.DataCorruptError as e:
        raise _changed(place) from e


def _unreadable(place: str, e: Exception) -> errors.ConfigError:
    if isinstance(e, OSError) and e.errno in _GONE:
        return errors.ConfigError(f"{place!r} must exist, and it does not.")
    return errors.ConfigError(f"{place!r} must be readable ({getattr(e, 'strerror', None) or e}).")


def _changed(place: str) -> errors.ConfigError:
    return errors.ConfigError(f"{place!r} must not change while it is packed, and it became shorter. Pack again.")
