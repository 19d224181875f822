"""The object store interface, its value types and key rules.

No storage library belongs here; `s3` and `local` each wrap one and translate its errors, once, to `errors.StorageError`
and its kin. `store.open_store` makes one from a URI.
"""

import abc
import builtins
import dataclasses
import pathlib
import uuid
from collections.abc import Iterable, Iterator, Sequence

from imagetrain_trainer import errors
from imagetrain_trainer.storage import range_reads

_PROBE_PREFIX = ".imagetrain-probe-"
# Object keys may hold anything, but a folder cannot: `#` marks a file that is still being written (see `local`).
_FORBIDDEN_IN_KEYS = frozenset("\\#?*")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """How to reach S3, from the manifest's `spec.s3`; None leaves a choice to the standard AWS environment and files.

    Credentials are never here: they come from the standard AWS chain alone.
    """

    endpoint_url: str | None = None
    """`http(s)://host[:port]` of an S3-compatible server."""
    region: str | None = None
    """Signing region, such as eu-central-1."""


@dataclasses.dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the store knows of one object; `etag` changes whenever the content does."""

    key: str
    size_bytes: int
    etag: str | None
    modified_at: float = dataclasses.field(default=0.0, compare=False)
    """Unix time of the store's own clock; 0 where it was not asked."""


class ObjectStore(abc.ABC):
    r"""Objects under one URI prefix. Thread-safe.

    Keys are relative (`a/b/c`), use `/`, and never hold `..` or any of `\ # ? *`. Every method raises
    `errors.StorageError` subclasses only, whose message holds the object's full URI and the fix, and
    `errors.DiskFullError` when a file:// store or a download folder has no space left.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri.rstrip("/") + "/"

    @property
    def uri(self) -> str:
        """URI of the prefix, ending in a slash."""
        return self._uri

    def uri_of(self, key: str) -> str:
        """Return the full URI of `key`, for messages and manifests."""
        return self._uri + key

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._uri!r})"

    @abc.abstractmethod
    def get(self, key: str) -> bytes:
        """Read a whole object.

        Raises:
            errors.ObjectNotFoundError: there is no such object.
        """

    @abc.abstractmethod
    def get_ranges(self, key: str, starts: Sequence[int], lengths: Sequence[int]) -> list[bytes]:
        """Read several byte ranges of one object; neighbours share a request, and requests run concurrently.

        Args:
            key: the object.
            starts: first byte of each range.
            lengths: bytes in each range, each at least 1.

        Raises:
            errors.ObjectNotFoundError: there is no such object.
            errors.DataCorruptError: the object ends before one of the ranges does.
        """

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Read `length` bytes from byte `start` on; raises as `get_ranges` does."""
        return self.get_ranges(key, [start], [length])[0]

    @abc.abstractmethod
    def put(
        self, key: str, data: bytes | memoryview, *, only_if_absent: bool = False, content_type: str | None = None
    ) -> ObjectInfo:
        """Write an object atomically: a reader sees the old bytes, the new ones, or none.

        Raises:
            errors.ObjectExistsError: `only_if_absent` and the object exists; it is unchanged.
            errors.DiskFullError: no space is left (file://).
        """

    @abc.abstractmethod
    def put_if_match(self, key: str, data: bytes, etag: str, *, content_type: str | None = None) -> ObjectInfo:
        """Replace an object that still has this ETag: of several who try with the same one, one succeeds.

        On file:// that holds among callers of this method alone; on s3:// it is as atomic as the server. Amazon S3 is;
        versitygw 1.8 and moto 5.2 check first and then write, so two that try within a millisecond may both succeed.

        Raises:
            errors.ObjectExistsError: the object has another ETag by now, or is gone; nothing is written.
        """

    @abc.abstractmethod
    def upload_file(
        self,
        key: str,
        path: pathlib.Path,
        *,
        only_if_absent: bool = False,
        content_type: str | None = None,
    ) -> ObjectInfo:
        """Write a local file's bytes to `key` in parts, as atomically as `put`; raises the same.

        With `only_if_absent` an s3:// upload is a single request, so the file must be smaller than 5 GB.
        """

    @abc.abstractmethod
    def download_file(self, key: str, path: pathlib.Path) -> ObjectInfo:
        """Copy an object to a local file, which appears at `path` only when complete.

        Raises:
            errors.ObjectNotFoundError: there is no such object.
            errors.DiskFullError: no space is left at `path`.
        """

    @abc.abstractmethod
    def head(self, key: str) -> ObjectInfo:
        """Return an object's size and ETag.

        Raises:
            errors.ObjectNotFoundError: there is no such object.
        """

    def exists(self, key: str) -> bool:
        """Tell whether the object is there."""
        try:
            self.head(key)
        except errors.ObjectNotFoundError:
            return False
        return True

    @abc.abstractmethod
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects below a folder, sorted by key.

        Args:
            prefix: whole folder names (`a/b` lists `a/b/c` but not `a/bc`); empty lists everything.
        """

    @abc.abstractmethod
    def list_folders(self, prefix: str = "") -> builtins.list[str]:
        """Return the sorted names of the folders right below a folder, without walking into them."""

    @abc.abstractmethod
    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; one that is not there is not an error."""

    @abc.abstractmethod
    def child(self, prefix: str) -> "ObjectStore":
        """Return the store of a folder below this one, without any request."""

    @abc.abstractmethod
    def open_range_reads(self, concurrency: int) -> range_reads.RangeReads:
        """Return single, unretried range reads for one event loop, up to `concurrency` at a time; see `fetching`."""

    def remove_partial_writes(self) -> None:  # noqa: B027 - most stores have none
        """Remove what killed writers left behind, where that is more than nothing; others may be writing meanwhile."""

    def probe_writable(self) -> None:
        """Write and delete a tiny object, so that a denied write shows before work is done.

        Raises:
            errors.AccessDeniedError: writing or deleting is not allowed.
            errors.BucketNotFoundError: the bucket does not exist.
        """
        key = f"{_PROBE_PREFIX}{uuid.uuid4().hex}"
        self.put(key, b"probe")
        self.delete([key])


def check_key(key: str) -> str:
    """Return `key` when it is safe in every store.

    Raises:
        errors.ConfigError: it is not; such a key could leave the store's folder.
    """
    parts = key.split("/")
    is_printable = all(character not in _FORBIDDEN_IN_KEYS and ord(character) >= ord(" ") for character in key)
    if not is_printable or any(part in ("", ".", "..") for part in parts):
        raise errors.ConfigError(f"object key must be a relative path without '..' or any of \\ # ? *, got {key!r}.")
    return key


def check_prefix(prefix: str) -> str:
    """Return a folder prefix without outer slashes; raises as `check_key` does."""
    stripped = prefix.strip("/")
    return check_key(stripped) if stripped else ""
