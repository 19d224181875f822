"""Runs to publish without a model, stores that fail or pause at a chosen call, and the one invariant of publishing."""

import builtins
import collections.abc
import dataclasses
import datetime as dt
import hashlib
import json
import pathlib
import random
from typing import TypeVar

from imagetrain_api import model_manifest, names, schema
from imagetrain_trainer.storage import range_reads, store

CLASSES = ("cat", "dog", "owl")
CREATED_AT = "2026-01-14T10:15:30.000000Z"

T = TypeVar("T")
Hook = collections.abc.Callable[[int], None]


def build_draft(**changes: object) -> model_manifest.ModelManifest:
    """Return a manifest without artifacts whose variants are those of `write_files`."""
    draft = model_manifest.ModelManifest(
        job="tiny",
        namespace="default",
        run_id="run-a",
        created_at=CREATED_AT,
        imagetrain_version="0.1.0",
        architecture="small_cnn",
        input_shape=(8, 8, 1),
        classes=CLASSES,
        dataset={"uri": "s3://datasets/tiny/", "digest": "sha256:00", "samples": {"train": 90, "test": 30}},
        training={"epochs": 2},
        test={"samples": 30, "accuracy": 0.9, "loss": 0.3},
        variants=(build_variant("saved_model", "saved_model"), build_variant("tflite_int8", "model_int8.tflite")),
        artifacts=(),
    )
    return dataclasses.replace(draft, **changes)  # type: ignore[arg-type]  # any field of the manifest


def time_of(unix_seconds: float) -> str:
    """Return a time as manifests hold it."""
    return dt.datetime.fromtimestamp(unix_seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def build_variant(model_format: str, path: str, **changes: object) -> model_manifest.Variant:
    """Return a published variant with made-up figures."""
    variant = model_manifest.Variant(
        format=model_format,
        path=path,
        is_published=True,
        size_bytes=1000,
        accuracy=0.9,
        latency_median_ms=1.0,
        latency_p95_ms=1.5,
    )
    return dataclasses.replace(variant, **changes)  # type: ignore[arg-type]  # any field of the variant


def write_files(folder: pathlib.Path, seed: int = 0, size_bytes: int = 500) -> pathlib.Path:
    """Fill a folder with what a run publishes, its bytes drawn from `seed`."""
    generator = random.Random(seed)
    for name in ("saved_model/saved_model.pb", "model_int8.tflite", "history.json", "report.html"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(generator.randbytes(size_bytes))
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    (folder / "model_card.md").write_text(f"# tiny {seed}\n")
    return folder


def check_invariant(output: store.ObjectStore, run_id: str = "", *, is_latest_exact: bool = True) -> list[str]:
    """Check that no manifest names a missing or wrong artifact, and latest.json no missing or wrong manifest.

    Args:
        output: the store of an output URI.
        run_id: the only run to look at; empty means all.
        is_latest_exact: False where a server's own race may leave latest.json with the digest of a replaced manifest.

    Returns:
        The ids of the runs that have a manifest.
    """
    published = []
    for info in list(output.list(names.run_prefix(run_id) if run_id else names.RUNS_PREFIX)):
        if not info.key.endswith(f"/{names.MANIFEST_KEY}"):
            continue
        manifest = schema.decode(model_manifest.ModelManifest, json.loads(output.get(info.key)))
        assert manifest.artifacts, info.key
        for artifact in manifest.artifacts:
            data = output.get(f"{names.run_prefix(manifest.run_id)}/{artifact.path}")
            assert (len(data), hashlib.sha256(data).hexdigest()) == (artifact.size_bytes, artifact.sha256), artifact
        published.append(manifest.run_id)
    if output.exists(names.LATEST_KEY):
        pointer = schema.decode(model_manifest.LatestPointer, json.loads(output.get(names.LATEST_KEY)))
        digest = hashlib.sha256(output.get(pointer.manifest)).hexdigest()
        assert digest == pointer.sha256 or not is_latest_exact
    return published


class HookedStore(store.ObjectStore):
    """A real store that calls hooks around each of its operations; children count their calls together.

    Attributes:
        calls: the operations so far, each with its key; hooks get the index of theirs.
    """

    def __init__(
        self,
        inner: store.ObjectStore,
        before: Hook = lambda number: None,
        after: Hook = lambda number: None,
        calls: list[str] | None = None,
    ) -> None:
        super().__init__(inner.uri)
        self._inner, self._before, self._after = inner, before, after
        self.calls = [] if calls is None else calls

    def _run(self, name: str, operation: collections.abc.Callable[[], T]) -> T:
        number = len(self.calls)
        self.calls.append(name)
        self._before(number)
        try:
            return operation()
        finally:
            self._after(number)

    def get(self, key: str) -> bytes:
        return self._run(f"get {key}", lambda: self._inner.get(key))

    def get_ranges(
        self, key: str, starts: collections.abc.Sequence[int], lengths: collections.abc.Sequence[int]
    ) -> builtins.list[bytes]:
        return self._run(f"get_ranges {key}", lambda: self._inner.get_ranges(key, starts, lengths))

    def put(
        self, key: str, data: bytes | memoryview, *, only_if_absent: bool = False, content_type: str | None = None
    ) -> store.ObjectInfo:
        def put() -> store.ObjectInfo:
            return self._inner.put(key, data, only_if_absent=only_if_absent, content_type=content_type)

        return self._run(f"put {key}", put)

    def put_if_match(self, key: str, data: bytes, etag: str, *, content_type: str | None = None) -> store.ObjectInfo:
        def put() -> store.ObjectInfo:
            return self._inner.put_if_match(key, data, etag, content_type=content_type)

        return self._run(f"put_if_match {key}", put)

    def upload_file(
        self, key: str, path: pathlib.Path, *, only_if_absent: bool = False, content_type: str | None = None
    ) -> store.ObjectInfo:
        def upload() -> store.ObjectInfo:
            return self._inner.upload_file(key, path, only_if_absent=only_if_absent, content_type=content_type)

        return self._run(f"upload_file {key}", upload)

    def download_file(self, key: str, path: pathlib.Path) -> store.ObjectInfo:
        return self._run(f"download_file {key}", lambda: self._inner.download_file(key, path))

    def head(self, key: str) -> store.ObjectInfo:
        return self._run(f"head {key}", lambda: self._inner.head(key))

    def list(self, prefix: str = "") -> collections.abc.Iterator[store.ObjectInfo]:
        return self._run(f"list {prefix}", lambda: iter(tuple(self._inner.list(prefix))))

    def list_folders(self, prefix: str = "") -> builtins.list[str]:
        return self._run(f"list_folders {prefix}", lambda: self._inner.list_folders(prefix))

    def delete(self, keys: collections.abc.Iterable[str]) -> None:
        kept = tuple(keys)
        self._run("delete", lambda: self._inner.delete(kept))

    def open_range_reads(self, concurrency: int) -> range_reads.RangeReads:
        return self._inner.open_range_reads(concurrency)

    def child(self, prefix: str) -> "HookedStore":
        return type(self)(self._inner.child(prefix), self._before, self._after, self.calls)
