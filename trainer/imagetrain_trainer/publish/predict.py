"""Classifying image files with a published model: a SavedModel, a .tflite file, a downloaded folder, or a model URI.

TensorFlow is loaded for a SavedModel alone; everything else runs in LiteRT.
"""

import dataclasses
import json
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from imagetrain_api import job, model_manifest, names, schema
from imagetrain_trainer import errors
from imagetrain_trainer.publish import catalog, download, labels, layout, pixels
from imagetrain_trainer.storage import store

_BATCH_SIZE = 32
# What to take where the user names no format: float accuracy first, and LiteRT before TensorFlow, which loads for 10 s.
_PREFERRED = (
    layout.TFLITE_FLOAT32,
    layout.TFLITE_FLOAT16,
    layout.TFLITE_DYNAMIC,
    layout.TFLITE_INT8,
    layout.SAVED_MODEL,
)
_SAVED_MODEL_FILE = "saved_model.pb"


class Runner(Protocol):
    """A loaded model."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""

    @property
    def classes(self) -> int:
        """Length of the probabilities."""

    def probabilities(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Classify images (n, height, width, channels); returns (n, classes)."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClassProbability:
    """One class and how probable the model finds it."""

    name: str
    class_id: int
    probability: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The answer for one file, the most probable class first."""

    path: pathlib.Path
    classes: tuple[ClassProbability, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Predictor:
    """A loaded model with the names of its classes; `description` says in a few words what it is."""

    runner: Runner
    classes: tuple[str, ...]
    description: str

    def predict_files(self, paths: Sequence[pathlib.Path], top: int = 3) -> list[Prediction]:
        """Classify image files of any size.

        Args:
            paths: the files.
            top: classes of each answer.

        Raises:
            ConfigError: a file cannot be read or is no image; the message names it.
        """
        return [
            prediction
            for start in range(0, len(paths), _BATCH_SIZE)
            for prediction in self._predict(paths[start : start + _BATCH_SIZE], top)
        ]

    def _predict(self, paths: Sequence[pathlib.Path], top: int) -> Iterator[Prediction]:
        images = np.stack([_read(path, self.runner.input_shape) for path in paths])
        for path, probabilities in zip(paths, self.runner.probabilities(images), strict=True):  # (classes,) each
            ranked = np.argsort(-probabilities, kind="stable")[:top]
            answers = (
                ClassProbability(name=self.classes[index], class_id=int(index), probability=float(probabilities[index]))
                for index in ranked
            )
            yield Prediction(path=path, classes=tuple(answers))


def _read(path: pathlib.Path, input_shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise errors.ConfigError(f"{path} must be a readable file, got {error.strerror}. Check the path.") from error
    try:
        return pixels.load_pixels(data, input_shape)
    except errors.ConfigError as error:
        raise pixels.name_rule(error, str(path)) from error


def load_predictor(
    model: str, *, run: str = catalog.LATEST, model_format: str | None = None, s3: store.S3Settings | None = None
) -> Predictor:
    """Load a model from wherever it lies.

    Args:
        model: a SavedModel's folder, a .tflite file with labels.txt beside it, a folder made by `imagetrain models
            download`, or a job's output URI.
        run: run id under an output URI; the newest one if left out.
        model_format: which format of a folder or an output URI; float TFLite is preferred if left out.
        s3: how to reach an s3:// URI.

    Raises:
        ConfigError: there is no such model, its labels are missing, or the format was not published.
        DataCorruptError: its bytes are not what its manifest names, or cannot be loaded.
        StorageError: the URI cannot be read.
    """
    path = pathlib.Path(model)
    if "://" in model or (path / names.RUNS_PREFIX).is_dir():
        return _load_from_store(model, run, model_format, s3)
    if path.is_file():
        return _load_tflite(path, None)
    if (path / _SAVED_MODEL_FILE).is_file():
        return _load_saved_model(path, None)
    if (path / names.MANIFEST_KEY).is_file():
        return _load_from_folder(path, model_format)
    raise errors.ConfigError(
        f"MODEL must be a .tflite file, a SavedModel's folder, a downloaded model or an output URI, got {model!r}. "
        "`imagetrain models download` fetches one."
    )


def _load_from_store(model: str, run: str, model_format: str | None, s3: store.S3Settings | None) -> Predictor:
    output = store.open_store(model, s3)
    loaded = catalog.load_manifest(output, run)
    chosen = choose_format(loaded.manifest, model_format)
    # The runners hold what they need in memory: the files may go.
    with tempfile.TemporaryDirectory(prefix="imagetrain-predict-") as scratch:
        folder = download.download(output, loaded, pathlib.Path(scratch, "model"), (chosen,))
        return _load_format(folder, loaded.manifest, chosen)


def _load_from_folder(folder: pathlib.Path, model_format: str | None) -> Predictor:
    try:
        manifest = schema.decode(
            model_manifest.ModelManifest, json.loads((folder / names.MANIFEST_KEY).read_text(encoding="utf-8"))
        )
    except ValueError as error:  # not JSON, or a broken rule
        raise errors.DataCorruptError(f"{folder / names.MANIFEST_KEY} is damaged. Download the model again.") from error
    present = [each for each in catalog.published_formats(manifest) if (folder / layout.MODEL_PATHS[each]).exists()]
    if model_format is None and present:
        model_format = min(present, key=_PREFERRED.index)
    chosen = choose_format(manifest, model_format)
    if chosen not in present:
        raise errors.ConfigError(
            f"format must be one of {', '.join(present) or 'none'} in {folder}, got {chosen!r}. Download that one too."
        )
    return _load_format(folder, manifest, chosen)


def choose_format(manifest: model_manifest.ModelManifest, model_format: str | None) -> str:
    """Return the format to run; raises ConfigError when it was not published."""
    published = catalog.published_formats(manifest)
    if model_format is None and published:
        return min(published, key=_PREFERRED.index)
    chosen = model_format or job.FORMATS[0]
    download.plan_download(manifest, (chosen,))
    return chosen


def _load_format(folder: pathlib.Path, manifest: model_manifest.ModelManifest, model_format: str) -> Predictor:
    path = folder / layout.MODEL_PATHS[model_format]
    load = _load_saved_model if model_format == layout.SAVED_MODEL else _load_tflite
    predictor = load(path, manifest.classes)
    return dataclasses.replace(
        predictor, description=f"{model_format} of {manifest.job}, run {manifest.run_id} ({manifest.architecture})"
    )


def _load_tflite(path: pathlib.Path, classes: tuple[str, ...] | None) -> Predictor:
    from imagetrain_trainer.publish import lite_runtime  # noqa: PLC0415 - a SavedModel needs no LiteRT

    runner = lite_runtime.LiteRunner(path)
    return _check_labels(Predictor(runner, classes or _read_labels(path), path.name), path)


def _load_saved_model(path: pathlib.Path, classes: tuple[str, ...] | None) -> Predictor:
    from imagetrain_trainer.publish import saved_model_runtime  # noqa: PLC0415 - TensorFlow takes 10 s to load

    runner = saved_model_runtime.SavedModelRunner(path)
    return _check_labels(Predictor(runner, classes or runner.class_names, path.name), path)


def _read_labels(path: pathlib.Path) -> tuple[str, ...]:
    beside = path.with_name(layout.LABELS)
    try:
        return labels.read_labels(beside)
    except (OSError, ValueError) as error:
        raise errors.ConfigError(
            f"{beside} must hold the class names of {path.name}, but is not readable. Put it beside the model."
        ) from error


def _check_labels(predictor: Predictor, path: pathlib.Path) -> Predictor:
    if len(predictor.classes) != predictor.runner.classes:
        raise errors.ConfigError(
            f"{layout.LABELS} must name the {predictor.runner.classes} classes of {path.name}, got "
            f"{len(predictor.classes)}. Put the labels of that model beside it."
        )
    return predictor
