"""Which data set a run trains on: chosen once, by the chief's first attempt, and written down beside the checkpoints.

`data.json` in the run's folder holds the version and its digest. Every worker of every attempt reads the same one,
though `latest` may have moved meanwhile, and none trains on a version that was replaced. No TensorFlow here.
"""

import dataclasses
import json
import logging
import time
from collections.abc import Callable

from imagetrain_api import job as job_module
from imagetrain_api import names, uris
from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset as dataset_module
from imagetrain_trainer.data import versions
from imagetrain_trainer.storage import store as storage

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """The data set of a run.

    Attributes:
        asked: `spec.data.uri` as the run began.
        uri: of the data set itself; another one when `asked` ends in `latest`.
        version: the folder that `latest` stood for, or None.
        digest: of its `dataset.json`.
    """

    asked: str
    uri: str
    version: str | None
    digest: str

    def __str__(self) -> str:
        version = f", version {self.version}" if self.version else ""
        return f"{self.uri}{version}, digest {self.digest}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PinnedData:
    """A run's data set, open, and found to be the pinned one."""

    pin: Pin
    objects: storage.ObjectStore

    def check(self, dataset: dataset_module.Dataset) -> None:
        """Check a description that was read later.

        Raises:
            errors.DataCorruptError: it is another one by now.
        """
        if dataset.digest != self.pin.digest:
            raise errors.DataCorruptError(
                f"{self.pin.uri} must have the digest {self.pin.digest} with which this run began, got "
                f"{dataset.digest}: the data set was replaced. Put it back, or start a new run."
            )


def open_pinned(
    spec: job_module.JobSpec,
    run_store: storage.ObjectStore,
    *,
    is_chief: bool,
    on_wait: Callable[[], None] = lambda: None,
) -> PinnedData:
    """Open the data set that the run is pinned to; the chief pins it if nobody has.

    Other workers wait for the chief: a store that checks a condition first and then writes could let two of them pin
    different versions. The watchdog ends a wait that nobody answers.

    Args:
        spec: the job.
        run_store: rooted at the run's prefix.
        is_chief: whether this worker has rank 0.
        on_wait: called once if this worker must wait.

    Raises:
        errors.ConfigError: `spec.data.uri` is another data set than the one the run began with, or output.uri lies in
            the version that was found.
        errors.DataCorruptError: the data set was replaced, or is damaged.
        errors.ObjectNotFoundError: the data set is not there.
        errors.StorageError: the store failed.
    """
    s3 = storage.S3Settings(endpoint_url=spec.s3.endpoint_url, region=spec.s3.region)
    pin = read_pin(run_store)
    if pin is None:
        pin = _make_pin(spec, s3, run_store) if is_chief else _wait_for_pin(run_store, on_wait)
    pinned = PinnedData(pin=pin, objects=_open_objects(spec, s3, pin))
    pinned.check(dataset_module.load_dataset(pinned.objects))
    logger.info("the data set is %s", pin)
    return pinned


def read_pin(run_store: storage.ObjectStore) -> Pin | None:
    """Return the run's pin, or None where there is none.

    Raises:
        errors.DataCorruptError: it is damaged.
    """
    try:
        data = run_store.get(names.DATA_KEY)
    except errors.ObjectNotFoundError:
        return None
    uri = run_store.uri_of(names.DATA_KEY)
    try:
        document = json.loads(data)
        version = document["schemaVersion"]
        pin = Pin(asked=document["asked"], uri=document["uri"], version=document["version"], digest=document["digest"])
    except (ValueError, KeyError, TypeError) as e:
        raise errors.DataCorruptError(
            f"{uri} must name the run's data set ({type(e).__name__}). Start a new run."
        ) from e
    if version != SCHEMA_VERSION:
        raise errors.DataCorruptError(f"{uri} must have schemaVersion {SCHEMA_VERSION}, got {version!r}.")
    return pin


def _make_pin(spec: job_module.JobSpec, s3: storage.S3Settings, run_store: storage.ObjectStore) -> Pin:
    place = versions.locate(spec.data.uri, s3)
    _check_output_outside(spec, place)
    dataset = versions.load(place)
    pin = Pin(asked=spec.data.uri, uri=place.objects.uri, version=place.version, digest=dataset.digest)
    document = {"schemaVersion": SCHEMA_VERSION, **dataclasses.asdict(pin)}
    data = (json.dumps(document, indent=1) + "\n").encode()
    try:
        run_store.put(names.DATA_KEY, data, only_if_absent=True, content_type="application/json")
    except errors.ObjectExistsError:  # a chief of this run that was given up lives on
        return read_pin(run_store) or pin
    return pin


def _wait_for_pin(run_store: storage.ObjectStore, on_wait: Callable[[], None]) -> Pin:
    on_wait()
    pause = _FIRST_PAUSE_SECONDS
    while (pin := read_pin(run_store)) is None:
        time.sleep(pause)
        pause = min(_LONGEST_PAUSE_SECONDS, pause * 1.5)
    return pin


def _check_output_outside(spec: job_module.JobSpec, place: versions.Place) -> None:
    """Check what the manifest's own rules cannot: that output.uri is not in the version that `latest` stands for."""
    output, data = uris.parse_storage_uri(spec.output.uri), uris.parse_storage_uri(place.objects.uri)
    if output.is_inside(data):
        raise errors.ConfigError(
            f"spec.output.uri must lie outside the data set, got {spec.output.uri!r} in {place.objects.uri}. Choose "
            "another prefix."
        )


def _open_objects(spec: job_module.JobSpec, s3: storage.S3Settings, pin: Pin) -> storage.ObjectStore:
    """Open the pinned data set, or the copy of it that the manifest of a resumed run names; refuse other data."""
    asked, before = uris.parse_storage_uri(spec.data.uri), uris.parse_storage_uri(pin.asked)
    if asked in (before, uris.parse_storage_uri(pin.uri)):
        return storage.open_store(pin.uri, s3)
    place = versions.locate(spec.data.uri, s3)
    found = versions.load(place)
    if found.digest != pin.digest:
        raise errors.ConfigError(
            f"spec.data.uri must be the data set with which this run began, {pin.asked} ({pin.digest}), got "
            f"{spec.data.uri} ({found.digest}). Start a new run to train on it."
        )
    return place.objects
