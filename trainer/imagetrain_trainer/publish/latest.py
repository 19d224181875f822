"""Moving latest.json: forward only, whoever else moves it at the same time.

Runs are ordered by (created_at, run_id) of their manifests, so any two publishers agree on which one is newer. The move
is a compare-and-swap on the ETag: a publisher that loses the race reads the pointer again and decides anew.
"""

import datetime as dt
import json
import logging

from imagetrain_api import model_manifest, names, schema
from imagetrain_trainer import errors
from imagetrain_trainer.publish import catalog
from imagetrain_trainer.storage import store

logger = logging.getLogger(__name__)

# Each failure means that another run moved the pointer in between, forward by at least one run.
_MAX_ATTEMPTS = 20


def advance(output: store.ObjectStore, loaded: catalog.LoadedManifest) -> bool:
    """Make latest.json name a run unless it names a newer one; tell whether it names this run afterwards.

    A pointer that cannot be read, or whose manifest is gone or changed, counts as older than any run. One that names
    this run and its manifest rightly stays.

    Raises:
        StorageUnavailableError: others kept moving the pointer.
        StorageError: the store refused or did not answer.
    """
    data = _encode(loaded)
    for _ in range(_MAX_ATTEMPTS):
        # The ETag is read before the content: content newer than the ETag then only makes the swap below fail.
        etag = _find_etag(output)
        if etag is not None and not _is_behind(output, loaded):
            return _names(output, loaded)
        try:
            _swap(output, data, etag)
        except errors.ObjectExistsError:
            continue
        return True
    raise errors.StorageUnavailableError(
        f"{output.uri_of(names.LATEST_KEY)} must be free to move, but other runs moved it {_MAX_ATTEMPTS} times in a "
        "row. Run the job again: what is published stays."
    )


def order_of(manifest: model_manifest.ModelManifest) -> tuple[dt.datetime, str]:
    """Return what runs are compared by; the run id settles equal times."""
    created_at = dt.datetime.fromisoformat(manifest.created_at)
    return (created_at if created_at.tzinfo else created_at.replace(tzinfo=dt.UTC)), manifest.run_id


def _encode(loaded: catalog.LoadedManifest) -> bytes:
    pointer = model_manifest.LatestPointer(run_id=loaded.manifest.run_id, manifest=loaded.key, sha256=loaded.sha256)
    return (json.dumps(schema.encode(pointer), indent=1, sort_keys=True) + "\n").encode()


def _find_etag(output: store.ObjectStore) -> str | None:
    try:
        etag = output.head(names.LATEST_KEY).etag
    except errors.ObjectNotFoundError:
        return None
    if etag is None:
        raise errors.StorageError(
            f"{output.uri_of(names.LATEST_KEY)} must have an ETag, for it is moved by compare-and-swap, got none. Use "
            "a store that returns one."
        )
    return etag


def _is_behind(output: store.ObjectStore, loaded: catalog.LoadedManifest) -> bool:
    try:
        pointer = catalog.find_pointer(output)
        if pointer is None:
            return True
        pointed = catalog.load_pointed(output, pointer).manifest
        is_behind = order_of(pointed) < order_of(loaded.manifest)
    except (errors.DataCorruptError, errors.ObjectNotFoundError, ValueError) as error:
        logger.warning("%s names no readable run and is moved: %s", output.uri_of(names.LATEST_KEY), error)
        return True
    if not is_behind and pointed.run_id != loaded.manifest.run_id:
        logger.warning(
            "%s stays at run %s, published at %s, which is newer than %s of run %s",
            output.uri_of(names.LATEST_KEY),
            pointed.run_id,
            pointed.created_at,
            loaded.manifest.created_at,
            loaded.manifest.run_id,
        )
    return is_behind


def _names(output: store.ObjectStore, loaded: catalog.LoadedManifest) -> bool:
    pointer = catalog.find_pointer(output)
    return pointer is not None and pointer.run_id == loaded.manifest.run_id


def _swap(output: store.ObjectStore, data: bytes, etag: str | None) -> None:
    if etag is None:
        output.put(names.LATEST_KEY, data, only_if_absent=True, content_type="application/json")
    else:
        output.put_if_match(names.LATEST_KEY, data, etag, content_type="application/json")
