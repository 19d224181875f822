"""The one place that opens a store from a URI; the interface comes along for callers."""

import pathlib

from imagetrain_api import uris
from imagetrain_trainer import errors
from imagetrain_trainer.storage import allocator, local
from imagetrain_trainer.storage.object_store import ObjectInfo, ObjectStore, S3Settings

__all__ = ["ObjectInfo", "ObjectStore", "S3Settings", "open_store"]


def open_store(uri: str, s3: S3Settings | None = None) -> ObjectStore:
    """Open the store at `s3://bucket[/prefix]`, `file:///folder` or a plain path.

    An s3:// store costs one small request here, which finds a wrong endpoint, bucket or key early. The folder of a
    file:// store need not exist: the first write creates it.

    Args:
        uri: where.
        s3: settings that override the AWS environment; ignored for folders.

    Raises:
        errors.ConfigError: the URI is malformed.
        errors.StorageUnavailableError: the endpoint cannot be reached (within 15 s).
        errors.BucketNotFoundError: the bucket does not exist.
        errors.AccessDeniedError: there are no credentials, or the server does not know them.
    """
    allocator.keep_freed_memory()  # before the library that reads S3 starts its threads
    if "://" not in uri:
        return local.LocalStore(pathlib.Path(uri))
    try:
        place = uris.parse_storage_uri(uri)
    except ValueError as e:
        raise errors.ConfigError(f"storage URI must be {e}, got {uri[:200]!r}.") from e
    if place.scheme == "file":
        return local.LocalStore(pathlib.Path(place.path))
    # boto3 costs 0.3 s to import, which file:// users need not pay.
    from imagetrain_trainer.storage import s3 as s3_store  # noqa: PLC0415

    return s3_store.open_s3(place.bucket, place.prefix, s3 or S3Settings())
