"""An object store in an S3 bucket: obstore moves the bytes, boto3 finds credentials and asks about the bucket.

Its errors are translated here and nowhere else. S3 error bodies repeat the access key id, so no library text ever
enters a message, and an error whose text names a key is not chained either: it would stand in the traceback.
"""

import builtins
import contextlib
import datetime as dt
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import botocore.exceptions
import obstore
from obstore import exceptions as obstore_errors
from obstore.store import S3Store as ObstoreS3

from imagetrain_trainer import errors
from imagetrain_trainer.storage import local, object_store, s3_connection, s3_errors, s3_ranges

if TYPE_CHECKING:
    from obstore import PutMode
    from obstore.store import ClientConfig, RetryConfig

_RETRIES: "RetryConfig" = {
    "max_retries": 10,
    "retry_timeout": dt.timedelta(seconds=60),
    "backoff": {
        "init_backoff": dt.timedelta(milliseconds=100),
        "max_backoff": dt.timedelta(seconds=10),
        "base": 2,
    },
}
# The whole-request limit leaves room for a 1 GiB object at 4 MB/s; a stalled connection is caught by the read timeout.
_CLIENT: "ClientConfig" = {
    "connect_timeout": dt.timedelta(seconds=4),
    "read_timeout": dt.timedelta(seconds=20),
    "timeout": dt.timedelta(seconds=280),
}
# Records this near share a request: at 100 MB/s the gap costs about as much as another request's 1-2 ms of overhead.
_COALESCE_BYTES = 128 * 1024
_PART_BYTES = 16 * 1024 * 1024  # AWS advises parts of 8-16 MB
_WRITE_ATTEMPTS = 3
_BROKEN_CONNECTION = "ConnectionReset"  # how obstore's error spells ECONNRESET
_LIBRARY_ERRORS = (obstore_errors.BaseError, FileNotFoundError, botocore.exceptions.BotoCoreError, OSError)


def open_s3(bucket: str, prefix: str, settings: object_store.S3Settings) -> "S3Store":
    """Open a bucket's prefix and check with one request that it can be reached; raises as `store.open_store` does."""
    uri = f"s3://{bucket}/{prefix}"
    connection = s3_connection.Connection.open(bucket, uri, settings)
    opened = S3Store(prefix, connection, connection.open_objects(_CLIENT, _RETRIES))
    problem = opened.diagnose_bucket()
    if problem is not None:
        raise problem
    return opened


class S3Store(object_store.ObjectStore):
    """Objects of one bucket below a prefix; retries end after 60 s, and a request that stalls after 20 s."""

    def __init__(self, prefix: str, connection: s3_connection.Connection, objects: ObstoreS3) -> None:
        super().__init__(f"s3://{connection.bucket}/{prefix}")
        self._prefix, self._connection, self._objects = prefix, connection, objects
        self._bucket, self._client = connection.bucket, connection.client
        self._endpoint = connection.client.meta.endpoint_url

    def _path(self, key: str) -> str:
        """Return the key within the bucket."""
        object_store.check_key(key)
        return f"{self._prefix}/{key}" if self._prefix else key

    def _folder(self, prefix: str) -> str | None:
        parts = [part for part in (self._prefix, object_store.check_prefix(prefix)) if part]
        return "/".join(parts) or None

    def get(self, key: str) -> bytes:
        """Read a whole object."""
        with self._translated(key, "read"):
            return obstore.get(self._objects, self._path(key)).bytes().to_bytes()

    def get_ranges(self, key: str, starts: Sequence[int], lengths: Sequence[int]) -> list[bytes]:
        """Read several byte ranges of one object, up to ten requests at a time."""
        if not starts:
            return []
        path = self._path(key)
        with self._translated(key, "read"):
            try:
                chunks = obstore.get_ranges(
                    self._objects, path, starts=starts, lengths=lengths, coalesce=_COALESCE_BYTES
                )
            except obstore_errors.BaseError as e:
                if s3_errors.read_code(e) == "InvalidRange":
                    raise local.short_object(self.uri_of(key), max(starts), lengths[starts.index(max(starts))]) from e
                raise
            buffers = [chunk.to_bytes() for chunk in chunks]
        local.check_lengths(self.uri_of(key), buffers, starts, lengths)
        return buffers

    def put(
        self, key: str, data: bytes | memoryview, *, only_if_absent: bool = False, content_type: str | None = None
    ) -> object_store.ObjectInfo:
        """Write an object; with `only_if_absent` by If-None-Match, which the server checks."""
        mode: PutMode = "create" if only_if_absent else "overwrite"
        etag = self._put(key, data, mode=mode, content_type=content_type)
        return object_store.ObjectInfo(key, len(data), etag)

    def put_if_match(
        self, key: str, data: bytes, etag: str, *, content_type: str | None = None
    ) -> object_store.ObjectInfo:
        """Replace an object by If-Match, which the server checks."""
        try:
            new_etag = self._put(key, data, mode={"e_tag": etag}, content_type=content_type)
        except errors.ObjectNotFoundError as e:
            raise _changed(self.uri_of(key)) from e
        return object_store.ObjectInfo(key, len(data), new_etag)

    def upload_file(
        self, key: str, path: pathlib.Path, *, only_if_absent: bool = False, content_type: str | None = None
    ) -> object_store.ObjectInfo:
        """Write a local file's bytes in parts of 16 MB."""
        with local.translate_os_errors(path.absolute().as_uri(), "read"):
            size_bytes = path.stat().st_size
        mode: PutMode = "create" if only_if_absent else "overwrite"
        etag = self._put(key, path, mode=mode, content_type=content_type)
        return object_store.ObjectInfo(key, size_bytes, etag)

    def _put(
        self, key: str, body: bytes | memoryview | pathlib.Path, *, mode: "PutMode", content_type: str | None
    ) -> str | None:
        """Write; again when the connection breaks, for obstore retries no write whose body was under way.

        A server may refuse a condition before it has read the body, and then reset the connection. So a broken creation
        is sent again only where the object is not there. A replacement is not: its lost answer may have been a success.
        """
        for _ in range(0 if isinstance(mode, dict) else _WRITE_ATTEMPTS - 1):
            try:
                return self._put_once(key, body, mode=mode, content_type=content_type)
            except errors.StorageUnavailableError as e:
                if _BROKEN_CONNECTION not in repr(e.__cause__):
                    raise
                if mode == "create" and self.exists(key):
                    raise _exists(self.uri_of(key)) from e
        return self._put_once(key, body, mode=mode, content_type=content_type)

    def _put_once(
        self, key: str, body: bytes | memoryview | pathlib.Path, *, mode: "PutMode", content_type: str | None
    ) -> str | None:
        attributes: Any = {"Content-Type": content_type} if content_type else None
        path = self._path(key)
        with self._translated(key, "write"):
            result = obstore.put(
                self._objects,
                path,
                body,
                attributes=attributes,
                mode=mode,
                chunk_size=_PART_BYTES,
                max_concurrency=4,
            )
        return result["e_tag"]

    def download_file(self, key: str, path: pathlib.Path) -> object_store.ObjectInfo:
        """Stream an object to a local file, which appears at `path` only when complete."""
        remote = self._path(key)
        with self._translated(key, "read"):
            result = obstore.get(self._objects, remote)
            chunks = iter(result.stream())
        with local.translate_os_errors(path.absolute().as_uri(), "write"), local.write_atomically(path) as file:
            while (chunk := self._next_chunk(key, chunks)) is not None:
                file.write(chunk)
        return object_store.ObjectInfo(key, result.meta["size"], result.meta["e_tag"])

    def _next_chunk(self, key: str, chunks: Iterator[bytes]) -> bytes | None:
        with self._translated(key, "read"):
            return next(chunks, None)

    def head(self, key: str) -> object_store.ObjectInfo:
        """Return an object's size and ETag."""
        path = self._path(key)
        with self._translated(key, "read"):
            meta = obstore.head(self._objects, path)
        return object_store.ObjectInfo(key, meta["size"], meta["e_tag"])

    def list(self, prefix: str = "") -> Iterator[object_store.ObjectInfo]:
        """Yield the objects below a folder, sorted by key."""
        folder, skipped = self._folder(prefix), len(self._prefix) + 1 if self._prefix else 0
        pages = obstore.list(self._objects, folder)
        while True:
            with self._translated(prefix, "list"):
                page = next(pages, None)
            if page is None:
                return
            for meta in page:
                modified_at = meta["last_modified"].timestamp()
                yield object_store.ObjectInfo(meta["path"][skipped:], meta["size"], meta["e_tag"], modified_at)

    def list_folders(self, prefix: str = "") -> builtins.list[str]:
        """Return the names of the folders right below a folder, by one delimiter listing."""
        folder = self._folder(prefix)
        with self._translated(prefix, "list"):
            found = obstore.list_with_delimiter(self._objects, folder)
        return sorted(folder.rstrip("/").rpartition("/")[2] for folder in found["common_prefixes"])

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects, a thousand per request; one that is not there is not an error."""
        keys = list(keys)
        paths = [self._path(key) for key in keys]
        if paths:
            with self._translated(keys[0], "delete"):
                obstore.delete(self._objects, paths)

    def child(self, prefix: str) -> "S3Store":
        """Return the store of a folder below this one; it shares the connections and credentials."""
        return S3Store(self._folder(prefix) or "", self._connection, self._objects)

    def open_range_reads(self, concurrency: int) -> s3_ranges.S3RangeReads:
        """Return range reads over connections of their own; obstore has no limit of its own on `concurrency`."""
        del concurrency
        return s3_ranges.S3RangeReads(self._lend(self._connection))

    def _lend(self, connection: s3_connection.Connection) -> s3_ranges.Lent:
        store = S3Store(self._prefix, connection, self._objects)  # which asks about the bucket with the same key
        return s3_ranges.Lent(
            objects=connection.open_objects(s3_ranges.CLIENT, s3_ranges.NO_RETRIES),
            path_of=self._path,
            uri_of=self.uri_of,
            translate=store._explain,
            renew=lambda: self._lend(connection.reopen()),
        )

    @contextlib.contextmanager
    def _translated(self, key: str, action: str) -> Iterator[None]:
        try:
            yield
        except _LIBRARY_ERRORS as e:
            translated = self._explain(e, key, action)
            raise translated from translated.__cause__

    def _explain(self, e: Exception, key: str, action: str) -> errors.TrainerError:
        """Return the trainer's own error, caused by `e` unless its text names a key."""
        translated = self._translate(e, self.uri_of(key), action)
        translated.__cause__ = None if s3_errors.is_secret(e) else e
        return translated

    def _translate(self, e: Exception, uri: str, action: str) -> errors.TrainerError:
        code, status = s3_errors.read_code(e), s3_errors.read_status(e)
        if code in s3_errors.BAD_KEY_CODES or isinstance(e, obstore_errors.UnauthenticatedError):
            return _key_refused(uri, action, code)
        if isinstance(e, obstore_errors.AlreadyExistsError | obstore_errors.PreconditionError):
            return _condition_failed(e, uri)
        if code == "NoSuchBucket":
            return self._bucket_missing()
        if isinstance(e, obstore_errors.PermissionDeniedError) or status == "403" or code == "AccessDenied":
            return self.diagnose_bucket() or errors.AccessDeniedError(
                f"cannot {action} {uri}: access denied. Check the bucket's policy and the key's permissions."
            )
        if isinstance(e, FileNotFoundError | obstore_errors.NotFoundError) or status == "404":
            return self.diagnose_bucket() or errors.ObjectNotFoundError(f"{uri} does not exist. Check the URI.")
        return self._unavailable(f"cannot {action} {uri}", code or (f"HTTP {status}" if status else "no answer"))

    def diagnose_bucket(self) -> errors.StorageError | None:
        """Ask the server about the bucket; None when it exists and the key is known, though it may lack rights."""
        try:
            answer = self._client.head_bucket(Bucket=self._bucket)
        except botocore.exceptions.ClientError as e:
            return self._explain_refusal(int(e.response["ResponseMetadata"]["HTTPStatusCode"]))
        except botocore.exceptions.BotoCoreError as e:
            return self._explain_failure(e)
        return self._check_region(answer.get("BucketRegion"))

    def _explain_refusal(self, status: int) -> errors.StorageError | None:
        """HEAD answers carry no error code, so ask with a request whose answer does."""
        try:
            self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
        except botocore.exceptions.ClientError as e:
            code = e.response["Error"].get("Code", "")
            if code in s3_errors.BAD_KEY_CODES:
                return _key_refused(self.uri, "open", code)
            if code == "NoSuchBucket":
                return self._bucket_missing()
            if status >= 500:
                return self._unavailable(f"cannot open {self.uri}", f"HTTP {status}")
        except botocore.exceptions.BotoCoreError as e:
            return self._explain_failure(e)
        return None

    def _explain_failure(self, e: botocore.exceptions.BotoCoreError) -> errors.StorageError:
        if isinstance(e, botocore.exceptions.NoCredentialsError | botocore.exceptions.CredentialRetrievalError):
            return _key_refused(self.uri, "open", "no credentials")
        return self._unavailable(f"cannot open {self.uri}", type(e).__name__)

    def _check_region(self, region: str | None) -> errors.StorageError | None:
        """Amazon answers for a bucket of another region by a redirect, which boto3 follows and obstore does not."""
        is_amazon = self._endpoint.endswith((".amazonaws.com", ".amazonaws.com.cn"))
        if not is_amazon or region is None or region == self._client.meta.region_name:
            return None
        return errors.BucketNotFoundError(
            f"s3://{self._bucket} is in region {region}, not {self._client.meta.region_name}. "
            "Set spec.s3.region or AWS_REGION."
        )

    def _bucket_missing(self) -> errors.BucketNotFoundError:
        return errors.BucketNotFoundError(
            f"bucket s3://{self._bucket} does not exist at {self._endpoint}. Create it, or correct the URI or endpoint."
        )

    def _unavailable(self, what: str, detail: str) -> errors.StorageUnavailableError:
        return errors.StorageUnavailableError(
            f"{what}: {self._endpoint} did not answer or failed ({detail}). Check the endpoint and the network."
        )


def _condition_failed(e: Exception, uri: str) -> errors.ObjectExistsError:
    if isinstance(e, obstore_errors.PreconditionError):
        return _changed(uri)
    return _exists(uri)


def _exists(uri: str) -> errors.ObjectExistsError:
    return errors.ObjectExistsError(f"{uri} must not exist yet, and it does. Choose another name or prefix.")


def _changed(uri: str) -> errors.ObjectExistsError:
    return errors.ObjectExistsError(f"{uri} must be unchanged since it was read, and it is not. Read it again.")


def _key_refused(uri: str, action: str, code: str | None) -> errors.AccessDeniedError:
    return errors.AccessDeniedError(
        f"cannot {action} {uri}: the server refused the access key ({code or 'unauthenticated'}). "
        "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or the profile."
    )
