"""Reading one byte range of one object at a time, without retries: the interface below `fetching`, and how it fails.

Every store makes one (`ObjectStore.open_range_reads`). Whether a failure is worth another try is said here by its kind;
when to try is `retrying`'s part.
"""

import abc
import enum
from collections.abc import Callable

from imagetrain_trainer import errors


class FailureKind(enum.Enum):
    """What a failed read asks for."""

    PASSING = "passing"
    """No answer, a broken connection or body, or a 5xx: the same request may work next time."""
    THROTTLED = "throttled"
    """The server asks for fewer requests (503 SlowDown, 429)."""
    KEY_REFUSED = "key refused"
    """The server no longer takes the access key or session token; newer ones may lie where these were found."""
    FINAL = "final"
    """No other try can help."""


class ReadFailedError(Exception):
    """One read failed. `explain` returns the error to raise; it may block on a question to the server."""

    def __init__(self, kind: FailureKind, explain: Callable[[], errors.TrainerError]) -> None:
        super().__init__(kind.value)
        self.kind = kind
        self.explain = explain


class Body(abc.ABC):
    """An answer whose first byte has come."""

    etag: str | None
    """The object's ETag; another one means other bytes."""
    object_bytes: int
    """The whole object's size."""

    @abc.abstractmethod
    async def read(self) -> memoryview:
        """Return the bytes of the range, fewer when the object ends before it does.

        Raises:
            ReadFailedError: the body did not come.
        """


class RangeReads(abc.ABC):
    """Reads ranges of a store's objects, for one event loop. Cancelling a read ends its connection at once."""

    is_remote: bool
    """Whether reads cross a network, so that a second request for late bytes can help."""

    @abc.abstractmethod
    async def begin(self, key: str, start: int, length: int, etag: str | None) -> Body:
        """Ask for bytes `start` to `start + length` of an object and wait for the first of them.

        Args:
            key: the object.
            start: first byte.
            length: bytes, at least 1.
            etag: the ETag that the object must still have; None takes any.

        Raises:
            ReadFailedError: it failed; its `explain` gives an `errors.DataCorruptError` when the object is shorter than
                `start`, or has another ETag.
        """

    @abc.abstractmethod
    def renew_credentials(self) -> None:
        """Find the credentials anew and use them from now on; blocks, and raises as `store.open_store` does."""

    @abc.abstractmethod
    def uri_of(self, key: str) -> str:
        """Return the full URI of `key`, for messages."""

    @abc.abstractmethod
    def close(self) -> None:
        """Give back threads and connections; no read may be under way."""


def replaced_object(uri: str) -> errors.DataCorruptError:
    """Build the error of an object that is no longer the one whose bytes were read before."""
    return errors.DataCorruptError(
        f"{uri} must stay as it is while it is read, but it was replaced during the run. "
        "Write changed data under a new prefix, and start again."
    )
