"""The reader's side of a model bucket, without TensorFlow: list runs, find one, and load its manifest.

Fetching what a manifest names is `download`'s work.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
from typing import TypeVar

from imagetrain_api import model_manifest, names, schema
from imagetrain_trainer import errors
from imagetrain_trainer.publish import layout
from imagetrain_trainer.storage import store

LATEST = "latest"
_CONCURRENT_READS = 8  # manifests are a few KB: the wait is the round trip

D = TypeVar("D", bound=schema.Document)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoadedManifest:
    """A manifest as it lies in the store.

    Attributes:
        manifest: the document.
        key: its key under the output URI.
        uri: its full URI.
        sha256: digest of its bytes.
    """

    manifest: model_manifest.ModelManifest
    key: str
    uri: str
    sha256: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One published run, as `imagetrain models list` shows it.

    Attributes:
        run_id: identity of the run; all else is empty when `problem` is not.
        job: name of the job.
        architecture: the network.
        created_at: UTC time of publishing, ISO 8601.
        accuracy: top-1 of the float model on the test split.
        size_bytes: size of all artifacts.
        formats: published formats.
        refused: formats that the gate refused.
        is_latest: whether latest.json names it.
        uri: full URI of its manifest.
        problem: why its manifest cannot be read, in one line.
    """

    run_id: str
    job: str = ""
    architecture: str = ""
    created_at: str = ""
    accuracy: float | None = None
    size_bytes: int = 0
    formats: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    is_latest: bool = False
    uri: str = ""
    problem: str = ""


def list_runs(output: store.ObjectStore) -> list[RunSummary]:
    """Return the published runs under an output URI, newest first; runs without a manifest are not published yet.

    A run whose manifest cannot be read comes last and says why in `problem`.

    Raises:
        DataCorruptError: latest.json cannot be read.
        StorageError: the store does not answer.
    """
    run_ids = output.list_folders(names.RUNS_PREFIX)
    pointer = find_pointer(output)
    latest = pointer.run_id if pointer else None
    with concurrent.futures.ThreadPoolExecutor(_CONCURRENT_READS) as pool:
        summaries = [each for each in pool.map(lambda run_id: _summarize_run(output, run_id, latest), run_ids) if each]
    return sorted(summaries, key=lambda each: (each.created_at, each.run_id), reverse=True)


def _summarize_run(output: store.ObjectStore, run_id: str, latest: str | None) -> RunSummary | None:
    try:
        loaded = find_manifest(output, run_id)
    except errors.DataCorruptError as error:
        return RunSummary(run_id=run_id, uri=output.uri_of(manifest_key(run_id)), problem=str(error))
    return _summarize(loaded, is_latest=run_id == latest) if loaded else None


def _summarize(loaded: LoadedManifest, *, is_latest: bool) -> RunSummary:
    manifest = loaded.manifest
    accuracy = manifest.test.get("accuracy")
    return RunSummary(
        run_id=manifest.run_id,
        job=manifest.job,
        architecture=manifest.architecture,
        created_at=manifest.created_at,
        accuracy=float(accuracy) if isinstance(accuracy, int | float) else None,
        size_bytes=sum(each.size_bytes for each in manifest.artifacts),
        formats=published_formats(manifest),
        refused=tuple(each.format for each in manifest.variants if not each.is_published),
        is_latest=is_latest,
        uri=loaded.uri,
    )


def load_manifest(output: store.ObjectStore, run: str = LATEST) -> LoadedManifest:
    """Load the manifest of a run, or of the run that latest.json names.

    Args:
        output: the store of the job's `spec.output.uri`.
        run: a run id, or "latest".

    Raises:
        ObjectNotFoundError: there is no such run, or nothing is published yet.
        DataCorruptError: the document breaks a rule, or is not the one latest.json was written for.
    """
    if run == LATEST:
        return _load_latest(output)
    loaded = find_manifest(output, run)
    if loaded is None:
        raise errors.ObjectNotFoundError(
            f"{output.uri_of(manifest_key(run))} does not exist: the run {run!r} is unknown or not published yet. "
            "`imagetrain models list` shows what there is."
        )
    return loaded


def _load_latest(output: store.ObjectStore) -> LoadedManifest:
    pointer = find_pointer(output)
    if pointer is None:
        raise errors.ObjectNotFoundError(
            f"{output.uri_of(names.LATEST_KEY)} does not exist: no run is published there yet. Check the URI: "
            "it must be the job's output.uri."
        )
    return load_pointed(output, pointer)


def load_pointed(output: store.ObjectStore, pointer: model_manifest.LatestPointer) -> LoadedManifest:
    """Load the manifest that a pointer names; raises as `load_manifest` does."""
    loaded = load_manifest(output, pointer.run_id)
    if loaded.sha256 != pointer.sha256:
        raise errors.DataCorruptError(
            f"{loaded.uri} must have the SHA-256 that latest.json names, {pointer.sha256}, got {loaded.sha256!r}: it "
            "was changed after it was published. Load the run by its id if you trust it."
        )
    return loaded


def find_manifest(output: store.ObjectStore, run_id: str) -> LoadedManifest | None:
    """Load a run's manifest, or return None when the run has none; raises DataCorruptError when it breaks a rule."""
    key = manifest_key(run_id)
    try:
        data = output.get(key)
    except errors.ObjectNotFoundError:
        return None
    uri = output.uri_of(key)
    manifest = _decode(model_manifest.ModelManifest, data, uri)
    if manifest.run_id != run_id:
        raise errors.DataCorruptError(f"{uri} must be of the run {run_id!r}, got {manifest.run_id!r}. Publish it anew.")
    return LoadedManifest(manifest=manifest, key=key, uri=uri, sha256=hashlib.sha256(data).hexdigest())


def find_pointer(output: store.ObjectStore) -> model_manifest.LatestPointer | None:
    """Load latest.json, or return None when there is none; raises DataCorruptError when it breaks a rule."""
    try:
        data = output.get(names.LATEST_KEY)
    except errors.ObjectNotFoundError:
        return None
    return _decode(model_manifest.LatestPointer, data, output.uri_of(names.LATEST_KEY))


def _decode(cls: type[D], data: bytes, uri: str) -> D:
    try:
        return schema.decode(cls, json.loads(data))
    except schema.ValidationError as error:
        raise errors.DataCorruptError(f"{uri} breaks its format: {error.errors[0]}") from error
    except ValueError as error:
        raise errors.DataCorruptError(f"{uri} must be JSON, got {data[:40]!r}. Publish the run anew.") from error


def manifest_key(run_id: str) -> str:
    """Return the key of a run's manifest under the output URI."""
    return f"{names.run_prefix(run_id)}/{names.MANIFEST_KEY}"


def published_formats(manifest: model_manifest.ModelManifest) -> tuple[str, ...]:
    """Return the formats that were published, in the manifest's order."""
    return tuple(each.format for each in manifest.variants if each.is_published)


def find_artifact(manifest: model_manifest.ModelManifest, name: str) -> model_manifest.Artifact:
    """Return an artifact by its name in the published folder, such as "report.html" or "model_int8.tflite".

    Raises:
        ObjectNotFoundError: the manifest names none.
    """
    for each in manifest.artifacts:
        if local_name(each) == name:
            return each
    raise errors.ObjectNotFoundError(f"run {manifest.run_id} must have published {name!r}, but its manifest lacks it.")


def local_name(artifact: model_manifest.Artifact) -> str:
    """Return an artifact's path without the folder that holds the set: `published/<digest>/a/b` -> `a/b`.

    Raises:
        DataCorruptError: the path could leave the folder it is downloaded to.
    """
    parts = artifact.path.split("/")
    is_safe = parts[0] == layout.PUBLISHED_PREFIX and len(parts) > 2 and "\\" not in artifact.path
    if not is_safe or any(part in ("", ".", "..") for part in parts) or "\0" in artifact.path:
        raise errors.DataCorruptError(
            f"artifacts.path must be {layout.PUBLISHED_PREFIX}/DIGEST/NAME without '..', got {artifact.path[:80]!r}. "
            "Do not use this manifest."
        )
    return "/".join(parts[2:])
