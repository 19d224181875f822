"""Versions of a data set: folders below one prefix, and `latest.json` beside them, which names one of them.

    s3://datasets/photos/latest.json     {"schemaVersion": 1, "version": "v3", "digest": "sha256:..."}
    s3://datasets/photos/v2/dataset.json ...
    s3://datasets/photos/v3/dataset.json ...

`s3://datasets/photos/latest` means the version that the pointer names at that moment. The pointer moves by
compare-and-swap, and backwards only for who says so. docs/dataset-format.md, "Versions".
"""

import concurrent.futures
import dataclasses
import json
import re

from imagetrain_api import names
from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset as dataset_module
from imagetrain_trainer.storage import object_store, store

LATEST = "latest"
LATEST_KEY = names.LATEST_KEY
SCHEMA_VERSION = 1

_MAX_ATTEMPTS = 20  # each failure means that someone else moved the pointer in between
_CONCURRENT_GETS = 8
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """What `latest.json` says: a version's folder name and the digest it had when the pointer was moved to it."""

    version: str
    digest: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a data URI leads.

    Attributes:
        objects: the store of the data set itself.
        version: the folder that `latest` stood for; None for a URI that names a data set directly.
        digest: what the pointer says the data set's digest is; None likewise.
    """

    objects: store.ObjectStore
    version: str | None = None
    digest: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version below a prefix; `problem` says why its `dataset.json` cannot be read, and then `dataset` is None."""

    name: str
    uri: str
    dataset: dataset_module.Dataset | None
    problem: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A move of the pointer: where it was (None: nowhere) and where it is."""

    before: Pointer | None
    after: Pointer

    @property
    def is_back(self) -> bool:
        """Tell whether it went to a version whose name sorts before the one it left."""
        return self.before is not None and order_of(self.after.version) < order_of(self.before.version)


def locate(uri: str, s3: store.S3Settings | None = None) -> Place:
    """Find the data set that a URI means; one that ends in `/latest` is followed through the pointer beside it.

    A prefix that is called `latest` and holds a data set itself, with no pointer beside it, is that data set.

    Raises:
        errors.ObjectNotFoundError: there is no pointer.
        errors.DataCorruptError: the pointer is damaged.
        errors.ConfigError, errors.StorageError: as `store.open_store`.
    """
    parent, _, last = uri.rstrip("/").rpartition("/")
    if last != LATEST:
        return Place(objects=store.open_store(uri, s3))
    above = store.open_store(f"{parent}/" if parent else ".", s3)
    pointer = read_pointer(above)
    if pointer is not None:
        return Place(objects=above.child(pointer.version), version=pointer.version, digest=pointer.digest)
    if above.exists(f"{LATEST}/{dataset_module.KEY}"):
        return Place(objects=above.child(LATEST))
    raise errors.ObjectNotFoundError(
        f"{above.uri_of(LATEST_KEY)} does not exist, so no version below {above.uri} is the latest. Name one with "
        f"`imagetrain data latest {above.uri} --set VERSION`."
    )


def load(place: Place) -> dataset_module.Dataset:
    """Read the `dataset.json` of a place.

    Raises:
        errors.ObjectNotFoundError: it is not there.
        errors.DataCorruptError: it is damaged, or not the one that the pointer was moved to.
    """
    loaded = dataset_module.load_dataset(place.objects)
    if place.digest not in (None, loaded.digest):
        raise errors.DataCorruptError(
            f"{place.objects.uri} must have the digest {place.digest} that {LATEST_KEY} beside it names, got "
            f"{loaded.digest}: the version was replaced. Pack a new version, for a data set never changes."
        )
    return loaded


def read_pointer(above: store.ObjectStore) -> Pointer | None:
    """Return what `latest.json` says, or None where there is none.

    Raises:
        errors.DataCorruptError: it is no pointer.
    """
    try:
        data = above.get(LATEST_KEY)
    except errors.ObjectNotFoundError:
        return None
    try:
        document = json.loads(data)
        pointer = Pointer(version=check_name(document["version"]), digest=document["digest"])
        is_known = document["schemaVersion"] == SCHEMA_VERSION and _DIGEST.fullmatch(pointer.digest)
    except (ValueError, KeyError, TypeError, AttributeError, errors.ConfigError) as e:
        raise _bad_pointer(above) from e
    if not is_known:
        raise _bad_pointer(above)
    return pointer


def check_name(version: str) -> str:
    """Return a version's name when it is one.

    Raises:
        errors.ConfigError: it is not the name of one folder, or is `latest` itself.
    """
    if "/" in version or version in (LATEST, LATEST_KEY):
        raise errors.ConfigError(f"version must be the name of one folder other than {LATEST}, got {version[:80]!r}.")
    return object_store.check_key(version)


def split_version(uri: str) -> tuple[str, str]:
    """Return the prefix above a data set's URI, and the name of its own folder.

    Raises:
        errors.ConfigError: there is no prefix above it, or its folder's name cannot be a version's.
    """
    parent, _, version = uri.rstrip("/").rpartition("/")
    if not parent or parent.endswith(":/"):
        raise errors.ConfigError(
            f"the data set's URI must lie below the prefix that {LATEST_KEY} goes to, got {uri[:200]!r}. Add a version "
            "to it, such as /v1/."
        )
    return f"{parent}/", check_name(version)


def check_forward(above: store.ObjectStore, version: str) -> None:
    """Refuse a version that the pointer would have to move back to; for a look before long work.

    Raises:
        errors.ConfigError: the pointer names a version whose name sorts behind this one.
        errors.DataCorruptError: the pointer is damaged.
    """
    _refuse_back(above, read_pointer(above), version)


def _refuse_back(above: store.ObjectStore, pointer: Pointer | None, version: str) -> None:
    if pointer is not None and order_of(version) < order_of(pointer.version):
        raise errors.ConfigError(
            f"{above.uri_of(LATEST_KEY)} must not move back from {pointer.version} to {version} unasked. Choose a "
            f"later name, or move it with `imagetrain data latest {above.uri} --set {version}`."
        )


def move(above: store.ObjectStore, version: str, *, may_go_back: bool = False) -> Move:
    """Make the pointer name a version that is there.

    Args:
        above: the prefix above the versions.
        version: name of the folder.
        may_go_back: also to a version whose name sorts before that of the present one. Names are compared with their
            numbers as numbers: v9 comes before v10.

    Raises:
        errors.ConfigError: it would go back.
        errors.ObjectNotFoundError: there is no such version.
        errors.DataCorruptError: its `dataset.json` is damaged, or the pointer is (unless `may_go_back`).
        errors.StorageUnavailableError: others kept moving the pointer.
    """
    loaded = dataset_module.load_dataset(above.child(check_name(version)))
    after = Pointer(version=version, digest=loaded.digest)
    for _ in range(_MAX_ATTEMPTS):
        # The ETag is read before the content: content newer than the ETag then only makes the swap below fail.
        etag = _find_etag(above)
        before = _read_for_move(above, may_go_back=may_go_back)
        if before == after:
            return Move(before=before, after=after)
        if not may_go_back:
            _refuse_back(above, before, version)
        try:
            _swap(above, after, etag)
        except errors.ObjectExistsError:
            continue
        return Move(before=before, after=after)
    raise errors.StorageUnavailableError(
        f"{above.uri_of(LATEST_KEY)} must be free to move, but others moved it {_MAX_ATTEMPTS} times in a row. Try "
        "again: what is packed stays."
    )


def order_of(version: str) -> list[tuple[int, int, str]]:
    """Return what versions are compared by: their text with every number in it as a number."""
    parts = re.split(r"([0-9]+)", version)
    return [(1, int(part), part) if part.isascii() and part.isdigit() else (0, 0, part) for part in parts]


def list_versions(above: store.ObjectStore) -> list[Version]:
    """Return the data sets in the folders right below a prefix, in the order of their names.

    Raises:
        errors.StorageError: the store failed.
    """
    folders = sorted(above.list_folders(), key=order_of)
    with concurrent.futures.ThreadPoolExecutor(_CONCURRENT_GETS, "imagetrain-versions") as pool:
        found = pool.map(lambda name: _find_version(above, name), folders)
        return [version for version in found if version is not None]


def _find_version(above: store.ObjectStore, name: str) -> Version | None:
    objects = above.child(name)
    try:
        return Version(name=name, uri=objects.uri, dataset=dataset_module.load_dataset(objects))
    except errors.ObjectNotFoundError:
        return None
    except errors.DataCorruptError as e:
        return Version(name=name, uri=objects.uri, dataset=None, problem=str(e))


def _read_for_move(above: store.ObjectStore, *, may_go_back: bool) -> Pointer | None:
    try:
        return read_pointer(above)
    except errors.DataCorruptError:
        if may_go_back:
            return None  # whoever names a version outright mends the pointer with it
        raise


def _find_etag(above: store.ObjectStore) -> str | None:
    try:
        etag = above.head(LATEST_KEY).etag
    except errors.ObjectNotFoundError:
        return None
    if etag is None:
        raise errors.StorageError(
            f"{above.uri_of(LATEST_KEY)} must have an ETag, for it is moved by compare-and-swap, got none. Use a store "
            "that returns one."
        )
    return etag


def _swap(above: store.ObjectStore, pointer: Pointer, etag: str | None) -> None:
    document = {"schemaVersion": SCHEMA_VERSION, "version": pointer.version, "digest": pointer.digest}
    data = (json.dumps(document, indent=1) + "\n").encode()
    if etag is None:
        above.put(LATEST_KEY, data, only_if_absent=True, content_type="application/json")
    else:
        above.put_if_match(LATEST_KEY, data, etag, content_type="application/json")


def _bad_pointer(above: store.ObjectStore) -> errors.DataCorruptError:
    return errors.DataCorruptError(
        f"{above.uri_of(LATEST_KEY)} must be a pointer of schemaVersion {SCHEMA_VERSION} with version and digest. "
        f"Write it anew with `imagetrain data latest {above.uri} --set VERSION`."
    )
