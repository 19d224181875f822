"""Making the model files on local disk: export once, convert each requested format, and prove that each one loads."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import numpy.typing as npt

from imagetrain_api import job
from imagetrain_trainer.publish import export, layout, tflite


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BuiltModel:
    """One model on disk; `path` is a file, or the SavedModel's folder."""

    format: str
    path: pathlib.Path
    size_bytes: int


def build_models(
    trained: keras.Model,
    spec: job.JobSpec,
    classes: Sequence[str],
    calibration_images: npt.NDArray[np.uint8],
    folder: pathlib.Path,
    on_step: Callable[[str, float], None],
) -> Mapping[str, BuiltModel]:
    """Write what the job asks for, and what the measurements of it need, into an empty folder.

    The SavedModel is always made: it is the float model that the others are held against. `tflite_float32` is made also
    when the gate asks for a speed-up, which is over it.

    Args:
        trained: the trained model; only its weights are read.
        spec: the job's spec.
        classes: names in the order of the logits.
        calibration_images: (n, height, width, channels) of the train split.
        folder: where.
        on_step: called before each model with a few words and the fraction done.

    Raises:
        ConfigError: a format cannot be made of this network.
    """
    model = export.rebuild_in_float32(trained, spec.model, len(classes))
    wanted = plan_formats(spec.output)
    on_step("exporting saved_model", 0.0)
    saved_model = folder / layout.MODEL_PATHS[layout.SAVED_MODEL]
    export.export_saved_model(model, classes, saved_model)
    built = {layout.SAVED_MODEL: _describe(layout.SAVED_MODEL, saved_model)}
    source = folder / "conversion"
    if len(wanted) > 1:
        export.export_for_conversion(model, source)
    for index, model_format in enumerate(wanted[1:], start=1):
        on_step(f"converting {model_format}", index / len(wanted))
        path = folder / layout.MODEL_PATHS[model_format]
        path.write_bytes(tflite.convert(model_format, source, calibration_images, spec.output.int8.input_type))
        tflite.check(model_format, path)
        built[model_format] = _describe(model_format, path)
    return built


def plan_formats(output: job.OutputSettings) -> list[str]:
    """Return the formats to make, the SavedModel first, in the order of `job.FORMATS`."""
    wanted = {layout.SAVED_MODEL, *output.formats}
    if output.gate.min_speedup is not None:
        wanted.add(layout.TFLITE_FLOAT32)
    return [each for each in job.FORMATS if each in wanted]


def _describe(model_format: str, path: pathlib.Path) -> BuiltModel:
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return BuiltModel(format=model_format, path=path, size_bytes=sum(each.stat().st_size for each in files))
