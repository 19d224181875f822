"""From built models to the manifest's variants: load each, measure all together, and ask the gate."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import numpy.typing as npt

from imagetrain_api import job, model_manifest
from imagetrain_trainer.publish import build, gate, layout, lite_runtime, measure, saved_model_runtime

_ACCURACY_BATCH_SIZE = 32  # beyond it LiteRT gains nothing on CPUs (small_cnn at 28 px), and activations take memory
_LATENCY_SECONDS = 3.0

Runner = lite_runtime.LiteRunner | saved_model_runtime.SavedModelRunner


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What measuring gave; `types` holds each format's input and output type."""

    evaluation: measure.Evaluation
    latencies: Mapping[str, measure.Latency]
    types: Mapping[str, tuple[str, str]]


def measure_models(
    built: Mapping[str, build.BuiltModel],
    batches: Iterable[tuple[npt.NDArray[np.uint8], npt.NDArray[np.integer]]],
    image: npt.NDArray[np.uint8],
    classes: int,
    cpu_threads: int,
    on_batch: measure.OnBatch,
    on_step: Callable[[str], None],
) -> Measurement:
    """Measure all built models on the test split; accuracy with every thread, latency with one.

    Args:
        built: models by format; the SavedModel is among them.
        batches: the test split.
        image: (height, width, channels), for the latency.
        classes: number of classes.
        cpu_threads: threads that measuring accuracy may use.
        on_batch: called with each batch and the float model's probabilities.
        on_step: called with a few words before the latency is measured.
    """
    float_model = saved_model_runtime.SavedModelRunner(built[layout.SAVED_MODEL].path)
    evaluation = measure.evaluate(
        _load(built, float_model, _ACCURACY_BATCH_SIZE, cpu_threads), layout.SAVED_MODEL, batches, classes, on_batch
    )
    on_step("measuring latency")
    runners = _load(built, float_model, 1, 1)
    latencies = measure.measure_latency(runners, image, _LATENCY_SECONDS)
    types = {name: (runner.input_type, runner.output_type) for name, runner in runners.items()}
    return Measurement(evaluation=evaluation, latencies=latencies, types=types)


def _load(
    built: Mapping[str, build.BuiltModel],
    float_model: saved_model_runtime.SavedModelRunner,
    batch_size: int,
    threads: int,
) -> dict[str, Runner]:
    return {
        name: float_model
        if name == layout.SAVED_MODEL
        else lite_runtime.LiteRunner(model.path, batch_size=batch_size, threads=threads)
        for name, model in built.items()
    }


def decide_variants(
    built: Mapping[str, build.BuiltModel], measurement: Measurement, output: job.OutputSettings
) -> tuple[model_manifest.Variant, ...]:
    """Return the requested formats in their order, each with its figures and the gate's decision."""
    return tuple(_decide(built[each], measurement, output.gate) for each in output.formats)


def _decide(model: build.BuiltModel, measurement: Measurement, settings: job.GateSettings) -> model_manifest.Variant:
    latency = measurement.latencies[model.format]
    measured = measurement.evaluation.by_format[model.format]
    float_accuracy = measurement.evaluation.by_format[layout.SAVED_MODEL].accuracy
    decision = gate.decide(
        model.format,
        float_accuracy=float_accuracy,
        accuracy=measured.accuracy,
        speedup=_find_speedup(model.format, measurement.latencies),
        settings=settings,
    )
    input_type, output_type = measurement.types[model.format]
    return model_manifest.Variant(
        format=model.format,
        path=layout.MODEL_PATHS[model.format],
        is_published=decision.is_published,
        is_forced=decision.is_forced,
        refusal=decision.refusal,
        size_bytes=model.size_bytes,
        accuracy=measured.accuracy,
        accuracy_drop=float_accuracy - measured.accuracy,
        agreement=measured.agreement,
        latency_median_ms=latency.median_ms,
        latency_p95_ms=latency.p95_ms,
        input_type=input_type,
        output_type=output_type,
    )


def _find_speedup(model_format: str, latencies: Mapping[str, measure.Latency]) -> float | None:
    base = latencies.get(layout.TFLITE_FLOAT32)
    return base.median_ms / latencies[model_format].median_ms if base else None
