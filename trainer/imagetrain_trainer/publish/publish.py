"""The training loop's entry point: from a trained model to a published run.

export -> convert -> measure -> gate -> describe -> upload. Each step lives in its module; this one orders them. It runs
on the chief alone and outside `strategy.scope()`: it starts no collective operation.
"""

import dataclasses
import datetime as dt
import importlib.metadata
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from imagetrain_api import model_manifest, names, schema, worker_config
from imagetrain_trainer import errors
from imagetrain_trainer.publish import (
    build,
    card,
    catalog,
    confusion,
    environment,
    labels,
    layout,
    local_disk,
    plain_json,
    publisher,
    report,
    samples,
    variants,
)
from imagetrain_trainer.storage import store

TestBatches = Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.integer]]]
OnProgress = Callable[[str, float], None]

# Where each step ends on the way from 0 to 1: measuring reads the test split once for every variant.
_CONVERTED, _MEASURED, _DESCRIBED = 0.25, 0.85, 0.9
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"  # of one length, so that text sorts as time does


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFacts:
    """The data set as the manifest and the model card name it.

    Attributes:
        uri: where it lies.
        digest: its identity, `sha256:...`.
        class_names: in the order of the labels.
        samples: images by split.
        version: the folder that `latest` stood for; None where the job named the data set itself.
    """

    uri: str
    digest: str
    class_names: tuple[str, ...]
    samples: Mapping[str, int]
    version: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PublishRequest:
    """What there is to publish.

    Attributes:
        model: the trained model, from `registry.build_model` with `config.job.spec.model`; only its weights are read.
        config: the worker config document.
        store: opened at `config.job.spec.output.uri`.
        dataset: what it was trained on.
        test_batches: called once; yields images (n, height, width, channels) uint8 and labels (n,), each sample once.
        calibration_images: (n, height, width, channels) uint8 of the train split, spread over the classes.
        training: final figures of the training, fit for JSON.
        history: content of history.json; `samples` and `environment` are added where absent.
        work_dir: scratch; its folder `publish` is emptied and used.
        cpu_threads: threads that measuring accuracy may use; None means every core this process may run on.
        on_progress: called with a few words and the fraction done, at least once a test batch.
    """

    model: keras.Model
    config: worker_config.WorkerConfig
    store: store.ObjectStore
    dataset: DatasetFacts
    test_batches: Callable[[], TestBatches]
    calibration_images: npt.NDArray[np.uint8]
    training: Mapping[str, Any]
    history: Mapping[str, Any]
    work_dir: pathlib.Path
    cpu_threads: int | None = None
    on_progress: OnProgress = lambda detail, fraction: None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PublishedModel:
    """A published run.

    Attributes:
        manifest: its manifest.
        manifest_uri: where that lies.
        sha256: digest of manifest.json.
        was_published_before: whether another attempt had published it.
        is_latest: whether latest.json names it.
        report_uri: where the HTML report lies.
        report_path: local copy of the report; None when another attempt had published it.
    """

    manifest: model_manifest.ModelManifest
    manifest_uri: str
    sha256: str
    was_published_before: bool
    is_latest: bool
    report_uri: str
    report_path: pathlib.Path | None


def find_published(output: store.ObjectStore, run_id: str) -> PublishedModel | None:
    """Return a run that has a manifest, after finishing what a crash left undone behind it; None without a manifest.

    Raises:
        GateRefusedError: the run published no model.
        DataCorruptError: the manifest breaks its format.
        StorageError: the store refused or did not answer.
    """
    found = publisher.find_run(output, run_id)
    return _describe(output, found, report_path=None) if found else None


def publish_model(request: PublishRequest) -> PublishedModel:
    """Export, convert, measure, gate, describe and upload a trained model; a run that is published already is returned.

    Raises:
        GateRefusedError: the gate refused every requested format; the manifest says why and is written.
        ConfigError: a requested format cannot be made of this network, or there are no test samples.
        NonFiniteLossError: the model answers with NaN.
        StorageError: the store refused or did not answer; calling again completes the work.
        DiskFullError: the work folder is full.
    """
    run_id = request.config.run_id
    found = find_published(request.store, run_id)
    if found:
        return found
    with local_disk.empty_folder(request.work_dir / "publish") as scratch:
        draft, folder = _prepare(request, scratch)
        published = publisher.publish_run(
            request.store,
            draft,
            folder,
            lambda name, fraction: request.on_progress(f"uploading {name}", _DESCRIBED + (1 - _DESCRIBED) * fraction),
        )
    return _describe(request.store, published, report_path=folder / layout.REPORT if published.is_own else None)


def _prepare(request: PublishRequest, scratch: pathlib.Path) -> tuple[model_manifest.ModelManifest, pathlib.Path]:
    """Make everything that is uploaded; returns the manifest without artifacts and the folder to publish."""
    built_folder, folder = scratch / "built", scratch / "published"
    built_folder.mkdir()
    folder.mkdir()
    spec, classes = request.config.job.spec, request.dataset.class_names
    built = build.build_models(
        request.model,
        spec,
        classes,
        request.calibration_images,
        built_folder,
        lambda detail, fraction: request.on_progress(detail, _CONVERTED * fraction),
    )
    collector = samples.SampleCollector(classes)
    measurement = _measure(request, built, collector)
    request.on_progress("writing the report", _MEASURED)
    draft = _draft_manifest(request, measurement, variants.decide_variants(built, measurement, spec.output))
    for variant in draft.variants:
        if variant.is_published:
            shutil.move(built[variant.format].path, folder / variant.path)
    _write_documents(request, draft, collector, folder)
    return draft, folder


def _measure(
    request: PublishRequest, built: Mapping[str, build.BuiltModel], collector: samples.SampleCollector
) -> variants.Measurement:
    total = max(1, request.dataset.samples.get("test", 1))
    done = 0

    def look(
        images: npt.NDArray[np.uint8], labels: npt.NDArray[np.integer], probabilities: npt.NDArray[np.float32]
    ) -> None:
        nonlocal done
        done += len(images)
        collector.add(images, labels, probabilities)
        share = (_MEASURED - _CONVERTED) * min(1.0, done / total)
        request.on_progress(f"measuring accuracy, {done} of {total} test images", _CONVERTED + share)

    return variants.measure_models(
        built,
        request.test_batches(),
        request.calibration_images[0],
        len(request.dataset.class_names),
        request.cpu_threads or len(os.sched_getaffinity(0)),
        look,
        lambda detail: request.on_progress(detail, _MEASURED),
    )


def _describe_dataset(dataset: DatasetFacts) -> dict[str, Any]:
    version = {"version": dataset.version} if dataset.version else {}
    return {"uri": dataset.uri, **version, "digest": dataset.digest, "samples": dict(dataset.samples)}


def _draft_manifest(
    request: PublishRequest, measurement: variants.Measurement, decided: tuple[model_manifest.Variant, ...]
) -> model_manifest.ModelManifest:
    config, dataset = request.config, request.dataset
    spec = config.job.spec
    return model_manifest.ModelManifest(
        job=config.job.metadata.name,
        namespace=config.job.metadata.namespace,
        run_id=config.run_id,
        created_at=dt.datetime.now(dt.UTC).strftime(_TIME_FORMAT),
        imagetrain_version=importlib.metadata.version("imagetrain"),
        architecture=spec.model.architecture,
        input_shape=spec.model.input_shape,
        classes=dataset.class_names,
        dataset=_describe_dataset(dataset),
        training={
            "workers": spec.workers,
            **plain_json.to_plain(request.training),
            "settings": {"model": schema.encode(spec.model), "training": schema.encode(spec.training)},
        },
        test=confusion.describe_test(measurement.evaluation, dataset.class_names),
        variants=decided,
        artifacts=(),
    )


def _write_documents(
    request: PublishRequest,
    draft: model_manifest.ModelManifest,
    collector: samples.SampleCollector,
    folder: pathlib.Path,
) -> None:
    history = {
        "samples": collector.collect(),
        "environment": environment.describe_environment(),
        **plain_json.to_plain(request.history),
    }
    documents = {
        layout.LABELS: labels.format_labels(draft.classes),
        layout.HISTORY: json.dumps(history, indent=1, sort_keys=True, allow_nan=False) + "\n",
        layout.CARD: card.build_card(draft, history["environment"]),
        layout.REPORT: report.build_report(draft, history),
    }
    for name, text in documents.items():
        (folder / name).write_bytes(text.encode())


def _describe(
    output: store.ObjectStore, published: publisher.PublishedRun, report_path: pathlib.Path | None
) -> PublishedModel:
    loaded = published.loaded
    if not catalog.published_formats(loaded.manifest):
        raise errors.GateRefusedError(_explain_refusal(loaded))
    run = output.child(names.run_prefix(loaded.manifest.run_id))
    return PublishedModel(
        manifest=loaded.manifest,
        manifest_uri=loaded.uri,
        sha256=loaded.sha256,
        was_published_before=not published.is_own,
        is_latest=published.is_latest,
        report_uri=run.uri_of(catalog.find_artifact(loaded.manifest, layout.REPORT).path),
        report_path=report_path,
    )


def _explain_refusal(loaded: catalog.LoadedManifest) -> str:
    refusals = " ".join(f"{each.format}: {each.refusal}" for each in loaded.manifest.variants)
    return (
        f"spec.output.formats must hold a model that passes the gate, got none in {loaded.uri}. {refusals} Relax "
        "spec.output.gate, set its force to true, or add saved_model, and start a new run."
    )
