"""Fetching what a manifest names: verified byte for byte, and visible only when complete."""

import contextlib
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence

from imagetrain_api import job, model_manifest, names
from imagetrain_trainer import errors
from imagetrain_trainer.publish import artifacts, catalog, layout
from imagetrain_trainer.storage import local, store

OnDownload = Callable[[str, int, int], None]  # name, bytes done, bytes in all


def download(
    output: store.ObjectStore,
    loaded: catalog.LoadedManifest,
    destination: pathlib.Path,
    formats: Sequence[str] | None = None,
    on_progress: OnDownload = lambda name, done, total: None,
) -> pathlib.Path:
    """Download models with labels, card, report and history into a folder, which appears only when all is verified.

    Args:
        output: the store of the job's `spec.output.uri`.
        loaded: the run.
        destination: a folder that does not exist, or is empty.
        formats: which models; None means all that were published.
        on_progress: called with each artifact's name, the bytes done and the bytes in all.

    Raises:
        ConfigError: a format was not published, or the destination is taken.
        DataCorruptError: an artifact is missing, or its bytes are not those the manifest names.
        DiskFullError: no space is left at the destination.
    """
    chosen = plan_download(loaded.manifest, formats)
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise errors.ConfigError(
            f"destination must be absent or an empty folder, got {str(destination)!r}. Name another folder."
        )
    run = output.child(names.run_prefix(loaded.manifest.run_id))
    with local.translate_os_errors(destination.absolute().as_uri(), "write"), _partial_folder(destination) as partial:
        _fetch_all(run, chosen, partial, on_progress)
        (partial / names.MANIFEST_KEY).write_bytes(output.get(loaded.key))
        partial.rename(destination)
    return destination


def plan_download(
    manifest: model_manifest.ModelManifest, formats: Sequence[str] | None = None
) -> list[model_manifest.Artifact]:
    """Return the artifacts of some formats and those common to all; raises ConfigError for a format not published."""
    published = catalog.published_formats(manifest)
    wanted = published if formats is None else tuple(formats)
    for each in wanted:
        if each not in published:
            raise errors.ConfigError(
                f"format must be one of {', '.join(published) or 'none'}, got {each!r}. {_why(manifest, each)}"
            )
    roots = {layout.MODEL_PATHS[each] for each in wanted} | set(layout.COMMON_FILES)
    return [each for each in manifest.artifacts if catalog.local_name(each).split("/")[0] in roots]


def _why(manifest: model_manifest.ModelManifest, model_format: str) -> str:
    refusal = next((each.refusal for each in manifest.variants if each.format == model_format), "")
    if refusal:
        return f"The gate refused it: {refusal}"
    if model_format in job.FORMATS:
        return "The run was not asked for it: add it to spec.output.formats."
    return f"Formats are {', '.join(job.FORMATS)}."


def _fetch_all(
    run: store.ObjectStore,
    chosen: Sequence[model_manifest.Artifact],
    folder: pathlib.Path,
    on_progress: OnDownload,
) -> None:
    total, done = sum(each.size_bytes for each in chosen), 0
    for each in chosen:
        on_progress(catalog.local_name(each), done, total)
        fetch(run, each, folder / catalog.local_name(each))
        done += each.size_bytes
    on_progress("", done, total)


def fetch(run: store.ObjectStore, artifact: model_manifest.Artifact, path: pathlib.Path) -> None:
    """Download one artifact of a run's folder and check its length and digest.

    Raises:
        DataCorruptError: it is missing or differs; nothing is left at `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    uri = run.uri_of(artifact.path)
    try:
        run.download_file(artifact.path, path)
    except errors.ObjectNotFoundError as error:
        raise errors.DataCorruptError(f"{uri} must exist: the manifest names it. Publish the run anew.") from error
    size_bytes, sha256 = artifacts.digest_file(path)
    if (size_bytes, sha256) != (artifact.size_bytes, artifact.sha256):
        path.unlink()
        raise errors.DataCorruptError(
            f"{uri} must have {artifact.size_bytes} bytes with SHA-256 {artifact.sha256}, got {size_bytes} bytes with "
            f"{sha256}: it was changed after it was published. Publish the run anew."
        )


@contextlib.contextmanager
def _partial_folder(destination: pathlib.Path) -> Iterator[pathlib.Path]:
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = pathlib.Path(tempfile.mkdtemp(prefix=f".{destination.name}.partial-", dir=destination.parent))
    partial.chmod(0o755)  # mkdtemp's 0700 would stay with the finished folder
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)
