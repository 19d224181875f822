"""The order of writes that makes a run's artifacts visible: all files, then manifest.json, then latest.json.

Every artifact lies in a folder named by the content of the whole set, `runs/<run_id>/published/<digest>/`. Two
publishers of one run therefore write the same bytes or different folders, and a manifest names one folder: no
interleaving of writes can make it name another's bytes. manifest.json is created only where there is none, and never
written again. docs/publishing.md walks through the crashes.
"""

import dataclasses
import hashlib
import json
import logging
import pathlib
from collections.abc import Callable, Sequence

from imagetrain_api import model_manifest, names, schema
from imagetrain_trainer import errors
from imagetrain_trainer.publish import artifacts, catalog, latest, layout
from imagetrain_trainer.storage import store

logger = logging.getLogger(__name__)

OnUpload = Callable[[str, float], None]  # name of the file, fraction of the bytes before it


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRun:
    """A run with a manifest.

    Attributes:
        loaded: the manifest as it lies in the store.
        is_latest: whether latest.json names it.
        is_own: whether this attempt's files are what it names.
    """

    loaded: catalog.LoadedManifest
    is_latest: bool
    is_own: bool = False


def publish_run(
    output: store.ObjectStore,
    draft: model_manifest.ModelManifest,
    folder: pathlib.Path,
    on_upload: OnUpload = lambda name, fraction: None,
) -> PublishedRun:
    """Publish a folder as a run, or return what another attempt at the same run published.

    Args:
        output: the store of the job's `spec.output.uri`.
        draft: the manifest without artifacts, its variants' paths relative to `folder`.
        folder: what is published, laid out as it will lie in the store.
        on_upload: called before each file.

    Raises:
        StorageError: the store refused or did not answer; calling again completes the work.
    """
    found = find_run(output, draft.run_id)
    if found:
        return found
    files = artifacts.collect_files(folder)
    manifest = complete_manifest(draft, files)
    run = output.child(names.run_prefix(draft.run_id))
    try:
        _upload(run, manifest, files, on_upload)
        is_created = _create_manifest(run, manifest)
    except errors.StorageError:
        found = find_run(output, draft.run_id)  # another attempt may have published the run meanwhile
        if found is None:
            raise
        return found
    published = _finish(output, catalog.load_manifest(output, draft.run_id))
    is_own = published.loaded.sha256 == _digest(manifest)
    if not is_own and not is_created:
        _delete_losers(run, manifest, published.loaded.manifest)
    return dataclasses.replace(published, is_own=is_own)


def find_run(output: store.ObjectStore, run_id: str) -> PublishedRun | None:
    """Return a published run, after finishing what a crash behind its manifest left undone; None without a manifest."""
    loaded = catalog.find_manifest(output, run_id)
    return _finish(output, loaded) if loaded else None


def complete_manifest(
    draft: model_manifest.ModelManifest, files: Sequence[artifacts.LocalFile]
) -> model_manifest.ModelManifest:
    """Name every file in the manifest, under the folder that their content gives them."""
    folder = f"{layout.PUBLISHED_PREFIX}/{artifacts.name_set(files)}"
    return dataclasses.replace(
        draft,
        variants=tuple(
            dataclasses.replace(each, path=f"{folder}/{each.path}" if each.is_published else "")
            for each in draft.variants
        ),
        artifacts=tuple(
            model_manifest.Artifact(
                path=f"{folder}/{each.name}",
                size_bytes=each.size_bytes,
                sha256=each.sha256,
                content_type=each.content_type,
            )
            for each in files
        ),
    )


def encode_manifest(manifest: model_manifest.ModelManifest) -> bytes:
    """Return the bytes of manifest.json."""
    return (json.dumps(schema.encode(manifest), indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _upload(
    run: store.ObjectStore,
    manifest: model_manifest.ModelManifest,
    files: Sequence[artifacts.LocalFile],
    on_upload: OnUpload,
) -> None:
    total, done = sum(each.size_bytes for each in files), 0
    for artifact, file in zip(manifest.artifacts, files, strict=True):
        on_upload(file.name, done / max(total, 1))
        run.upload_file(artifact.path, file.path, content_type=artifact.content_type)
        done += file.size_bytes
    for artifact in manifest.artifacts:
        _verify_size(run, artifact)


def _verify_size(run: store.ObjectStore, artifact: model_manifest.Artifact) -> None:
    stored = run.head(artifact.path).size_bytes
    if stored != artifact.size_bytes:
        raise errors.StorageUnavailableError(
            f"{run.uri_of(artifact.path)} must have {artifact.size_bytes} bytes after its upload, got {stored}. Run "
            "again; if it stays so, the store loses data."
        )


def _create_manifest(run: store.ObjectStore, manifest: model_manifest.ModelManifest) -> bool:
    """Create manifest.json, and tell whether it was this call that did."""
    try:
        run.put(names.MANIFEST_KEY, encode_manifest(manifest), only_if_absent=True, content_type="application/json")
    except errors.ObjectExistsError:
        # Either another attempt won, or this one did and the answer was lost on the way: the caller reads which.
        logger.info("%s exists already, and stays", run.uri_of(names.MANIFEST_KEY))
        return False
    logger.info("published %s (sha256 %s)", run.uri_of(names.MANIFEST_KEY), _digest(manifest))
    return True


def _digest(manifest: model_manifest.ModelManifest) -> str:
    return hashlib.sha256(encode_manifest(manifest)).hexdigest()


def _finish(output: store.ObjectStore, loaded: catalog.LoadedManifest) -> PublishedRun:
    """Move latest.json to a run that published a model, and look at the manifest once more.

    A server that checks a condition and then writes, as small ones do, may let two attempts create manifest.json within
    a millisecond. Both manifests name whole sets; the second look finds which one stayed.
    """
    output.child(names.run_prefix(loaded.manifest.run_id)).remove_partial_writes()
    is_latest = bool(catalog.published_formats(loaded.manifest)) and latest.advance(output, loaded)
    now = catalog.load_manifest(output, loaded.manifest.run_id)
    if now.sha256 != loaded.sha256:
        return _finish(output, now)
    return PublishedRun(loaded=loaded, is_latest=is_latest)


def _delete_losers(
    run: store.ObjectStore, manifest: model_manifest.ModelManifest, winner: model_manifest.ModelManifest
) -> None:
    """Delete what this attempt uploaded in vain. Nothing else is deleted: its writer may still be at work.

    The run is published whether this succeeds or not, so a failure is only logged.
    """
    kept = {each.path for each in winner.artifacts}
    try:
        run.delete(each.path for each in manifest.artifacts if each.path not in kept)
    except errors.StorageError as error:
        logger.warning("files of a lost attempt stay under %s: %s", run.uri_of(layout.PUBLISHED_PREFIX), error)
