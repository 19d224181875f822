"""Range reads of an S3 bucket through obstore's asynchronous calls, one attempt each.

The retries, the time limits and the number of requests are `fetching`'s, so obstore's own are off. A body is handed out
where obstore put it: nothing is copied.
"""

import dataclasses
import datetime as dt
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import obstore
from obstore import exceptions as obstore_errors
from obstore.store import S3Store as ObstoreS3

from imagetrain_trainer import errors
from imagetrain_trainer.storage import local, range_reads, s3_errors

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult
    from obstore.store import ClientConfig, RetryConfig

NO_RETRIES: "RetryConfig" = {"max_retries": 0, "retry_timeout": dt.timedelta(0)}
CLIENT: "ClientConfig" = {
    "connect_timeout": dt.timedelta(seconds=4),
    # No byte for so long is a lost connection, whatever hedging did about it.
    "read_timeout": dt.timedelta(seconds=10),
    # Leaves room for 8 MiB at 140 kB/s.
    "timeout": dt.timedelta(seconds=60),
    # Idle connections cost a handshake with TLS to make again; servers close them after 20 s or more.
    "pool_idle_timeout": dt.timedelta(seconds=15),
}
_LIBRARY_ERRORS = (obstore_errors.BaseError, OSError, ValueError)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Lent:
    """What an S3 store lends for range reads."""

    objects: ObstoreS3
    """The bucket, with `NO_RETRIES` and `CLIENT`."""
    path_of: Callable[[str], str]
    """From a key of the store to the key in the bucket."""
    uri_of: Callable[[str], str]
    translate: Callable[[Exception, str, str], errors.TrainerError]
    """From a library error, a key and a verb to the error to raise; asks the server at times."""
    renew: Callable[[], "Lent"]
    """Lend the same with credentials that were just looked for."""


class S3RangeReads(range_reads.RangeReads):
    """Range reads of one bucket's prefix."""

    is_remote = True

    def __init__(self, lent: Lent) -> None:
        self._lent: Lent | None = lent
        self._uri_of = lent.uri_of

    async def begin(self, key: str, start: int, length: int, etag: str | None) -> "S3Body":
        """Send a GET and wait for the head of its answer."""
        options: GetOptions = {"range": (start, start + length)}
        if etag is not None:
            options["if_match"] = etag
        lent = self._lent
        assert lent is not None, "these reads are closed"
        try:
            result = await obstore.get_async(lent.objects, lent.path_of(key), options=options)
        except _LIBRARY_ERRORS as e:
            raise _failure(lent, e, key, start, length) from None
        return S3Body(lent, result, key, start, length)

    def renew_credentials(self) -> None:
        """Find the credentials anew, and open new connections with them."""
        if self._lent is not None:
            self._lent = self._lent.renew()

    def uri_of(self, key: str) -> str:
        """Return the full URI of `key`."""
        return self._uri_of(key)

    def close(self) -> None:
        """Let go of obstore's store; the connections end with it."""
        self._lent = None


class S3Body(range_reads.Body):
    """The body of one GET."""

    def __init__(self, lent: Lent, result: "GetResult", key: str, start: int, length: int) -> None:
        self._lent, self._result, self._request = lent, result, (key, start, length)
        meta = result.meta
        self.etag, self.object_bytes = meta["e_tag"], meta["size"]

    async def read(self) -> memoryview:
        """Return the body as a view of obstore's memory."""
        try:
            data: Any = await self._result.bytes_async()
        except _LIBRARY_ERRORS as e:
            raise _failure(self._lent, e, *self._request) from None
        return memoryview(data)


def _failure(lent: Lent, e: Exception, key: str, start: int, length: int) -> range_reads.ReadFailedError:
    final = range_reads.FailureKind.FINAL
    if isinstance(e, obstore_errors.PreconditionError):
        return range_reads.ReadFailedError(final, lambda: range_reads.replaced_object(lent.uri_of(key)))
    if s3_errors.read_code(e) == "InvalidRange" or s3_errors.read_status(e) == "416":
        return range_reads.ReadFailedError(final, lambda: local.short_object(lent.uri_of(key), start, length))
    return range_reads.ReadFailedError(s3_errors.classify_read(e), lambda: lent.translate(e, key, "read"))
