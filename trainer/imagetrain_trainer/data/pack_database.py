"""SQLite as packing uses it: how its files are opened, how text and hashes are stored, and what its errors become."""

import contextlib
import os
import pathlib
import sqlite3
from collections.abc import Iterator

from imagetrain_trainer import errors

_CACHE_KIB = 32 * 1024  # of pages; the sorter may use as much again before it spills to a temporary file
_WAIT_SECONDS = 5
_SIGN = 1 << 63


def open_scratch(path: pathlib.Path) -> sqlite3.Connection:
    """Open a new file for writing without any safety: whoever is killed meanwhile leaves rubbish behind."""
    database = sqlite3.connect(path, timeout=_WAIT_SECONDS)
    database.executescript(
        f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;"
        f"PRAGMA cache_size = -{_CACHE_KIB};"
    )
    return database


def open_durable(path: pathlib.Path) -> sqlite3.Connection:
    """Open a file whose transactions are whole or absent after a kill of the process or the machine."""
    database = sqlite3.connect(path, timeout=_WAIT_SECONDS)
    database.executescript(
        f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -{_CACHE_KIB};"
    )
    return database


def open_finished(path: pathlib.Path) -> sqlite3.Connection:
    """Open a file for reading alone."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_WAIT_SECONDS)


@contextlib.contextmanager
def translate(path: pathlib.Path) -> Iterator[None]:
    """Turn SQLite's errors on the file `path` into the trainer's.

    Raises:
        errors.DiskFullError: no space is left for the file or for sorting.
        errors.ConfigError: the file is damaged, or cannot be read or written.
    """
    try:
        yield
    except sqlite3.Error as e:
        if getattr(e, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
            raise errors.DiskFullError(
                f"no space is left for {str(path)!r} or for sorting: free some, or pack with another --work-dir (and "
                "SQLITE_TMPDIR for the sorting)."
            ) from e
        raise errors.ConfigError(
            f"work file {str(path)!r} must be whole and writable, got {str(e)[:80]!r}. Delete its folder, or pack with "
            "another --work-dir."
        ) from e


def sync(path: pathlib.Path) -> None:
    """Write a file's content through to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def encode_text(text: str) -> bytes:
    """Return text as it is stored; names of files may hold bytes that are no text.

    Raises:
        errors.ConfigError: it holds half a character, which no file name does.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as e:
        raise errors.ConfigError(f"key must be text that UTF-8 can hold, got {text[:80]!r}.") from e


def decode_text(stored: bytes) -> str:
    """Return text that was stored."""
    return stored.decode("utf-8", "surrogateescape")


def encode_hash(value: int) -> int:
    """Return 64 unsigned bits as SQLite's signed integer of the same order."""
    return value - _SIGN
