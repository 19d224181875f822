"""Strict parsing of storage URIs."""

import dataclasses
from urllib import parse

from imagetrain_api.rules import Syntax

_PART = r"(?:[^/.][^/]*|\.[^/.][^/]*|\.\.[^/]+)"  # between two slashes; neither empty nor "." nor ".."
# Amazon S3 user guide, "General purpose bucket naming rules".
_BUCKET = "an s3:// URI whose bucket has 3 to 63 lower-case letters, digits, dots and hyphens"

# The rules of a storage URI in the order in which they are told. The CRD has the same ones.
SYNTAX = (
    Syntax(r"(?s:(s3|file)://.*)", "an s3://BUCKET/PREFIX/ or file:///FOLDER/ URI"),
    Syntax(r"[^\x00-\x20\x7f?#*\\]*", "a URI without spaces, control characters and any of ? # * \\"),
    Syntax(
        r"[a-z0-9]+://[^/]*@.*",
        "a URI without credentials: give them in the environment or in a Secret",
        is_forbidden=True,
    ),
    Syntax(r"file:.*|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?", _BUCKET),
    Syntax(r"s3://([^/]*\.\.[^/]*|[0-9]+(\.[0-9]+){3})(/.*)?", _BUCKET, is_forbidden=True),
    Syntax(r"s3:.*|file:///.*", "a file URI with an absolute folder, such as file:///data/set/"),
    Syntax(r"file:///+", "a file URI that names a folder, not the whole file system", is_forbidden=True),
    Syntax(rf"(s3://[^/]*|file://)(/{_PART})*/?", "a URI without empty, '.' or '..' parts"),
    Syntax(
        r"file:.*%(2[EeFf]|[01][0-9A-Fa-f]|7[Ff]).*",
        "a file URI that escapes neither '.' nor '/' nor control characters",
        is_forbidden=True,
    ),
)


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
    broken = next((syntax for syntax in SYNTAX if not syntax.holds(text)), None)
    if broken:
        raise ValueError(broken.rule)
    scheme, _, rest = text.partition("://")
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.removesuffix("/")
    return StorageUri(scheme, bucket, prefix if scheme == "s3" else parse.unquote(prefix))
