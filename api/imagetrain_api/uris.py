"""Strict parsing of storage URIs."""

import dataclasses
import re
from urllib import parse

# Amazon S3 user guide, "General purpose bucket naming rules".
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_IPV4 = re.compile(r"[0-9]+(\.[0-9]+){3}")
_MAX_KEY_BYTES = 1024  # Amazon S3's limit of an object key


@dataclasses.dataclass(frozen=True, slots=True)
class StorageUri:
    """A bucket and prefix (`s3`), or an absolute folder (`file`, empty bucket); the prefix has no outer slash."""

    scheme: str
    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}" if self.scheme == "s3" else f"file:///{self.prefix}"

    @property
    def path(self) -> str:
        """The absolute folder of a `file` URI."""
        return f"/{self.prefix}"

    def is_inside(self, other: "StorageUri") -> bool:
        """Tell whether this place is `other` or lies below it."""
        same_store = (self.scheme, self.bucket) == (other.scheme, other.bucket)
        return same_store and (not other.prefix or f"{self.prefix}/".startswith(f"{other.prefix}/"))


def parse_storage_uri(text: str) -> StorageUri:
    """Parse `s3://bucket/prefix/` or `file:///folder/`.

    Raises:
        ValueError: its text is the broken rule, fit to follow "must be".
    """
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in ("s3", "file"):
        raise ValueError("an s3://BUCKET/PREFIX/ or file:///FOLDER/ URI")
    if any(character in text for character in "?#*\\") or any(ord(character) < 33 for character in text):
        raise ValueError("a URI without spaces, control characters and any of ? # * \\")
    if "@" in rest.partition("/")[0]:
        raise ValueError("a URI without credentials: give them in the environment or in a Secret")
    return _parse_s3(rest) if scheme == "s3" else _parse_file(rest)


def _parse_s3(rest: str) -> StorageUri:
    bucket, _, prefix = rest.partition("/")
    if not _BUCKET.fullmatch(bucket) or ".." in bucket or _IPV4.fullmatch(bucket):
        raise ValueError("an s3:// URI whose bucket has 3 to 63 lower-case letters, digits, dots and hyphens")
    prefix = prefix.removesuffix("/")
    _check_segments(prefix)
    if len(prefix.encode()) > _MAX_KEY_BYTES // 2:
        raise ValueError(f"an s3:// URI whose prefix has at most {_MAX_KEY_BYTES // 2} bytes")
    return StorageUri("s3", bucket, prefix)


def _parse_file(rest: str) -> StorageUri:
    if not rest.startswith("/"):
        raise ValueError("a file URI with an absolute folder, such as file:///data/set/")
    prefix = parse.unquote(rest).removeprefix("/").removesuffix("/")
    if not prefix:
        raise ValueError("a file URI that names a folder, not the whole file system")
    _check_segments(prefix)
    return StorageUri("file", "", prefix)


def _check_segments(prefix: str) -> None:
    if prefix and any(part in ("", ".", "..") for part in prefix.split("/")):
        raise ValueError("a URI without empty, '.' or '..' parts")
