"""The local side of publishing: the files of a folder, their digests, and the name that their content gives the set."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Sequence

from imagetrain_trainer import errors

_READ_BYTES = 1 << 20
_SET_NAME_DIGITS = 16  # 64 bits: two different sets of one run share a name once in 10^19 times

_CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LocalFile:
    """One file to publish; `name` is its path relative to the folder, with forward slashes."""

    name: str
    path: pathlib.Path
    size_bytes: int
    sha256: str
    content_type: str


def collect_files(folder: pathlib.Path) -> tuple[LocalFile, ...]:
    """Digest every file below a folder, in order of their names.

    Raises:
        ConfigError: the folder holds no file.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    if not paths:
        raise errors.ConfigError(f"A folder to publish must hold files, got {str(folder)!r}, which is empty.")
    return tuple(_describe(path, path.relative_to(folder).as_posix()) for path in paths)


def _describe(path: pathlib.Path, name: str) -> LocalFile:
    size_bytes, sha256 = digest_file(path)
    content_type = _CONTENT_TYPES.get(path.suffix, "application/octet-stream")
    return LocalFile(name=name, path=path, size_bytes=size_bytes, sha256=sha256, content_type=content_type)


def digest_file(path: pathlib.Path) -> tuple[int, str]:
    """Return a file's length in bytes and the hexadecimal SHA-256 of its content."""
    digest, size_bytes = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
            size_bytes += len(chunk)
    return size_bytes, digest.hexdigest()


def name_set(files: Sequence[LocalFile]) -> str:
    """Return a folder name that any other names or bytes in the set would change."""
    listing = json.dumps(sorted((file.name, file.sha256) for file in files))
    return hashlib.sha256(listing.encode()).hexdigest()[:_SET_NAME_DIGITS]
