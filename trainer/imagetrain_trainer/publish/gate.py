"""The gate: which measured variants may be published. Pure decisions; measuring is `measure`'s work."""

import dataclasses

from imagetrain_api import job
from imagetrain_trainer.publish import layout

# The float model itself is never refused: it is what the others are held against.
_FLOAT_FORMATS = frozenset({layout.SAVED_MODEL, layout.TFLITE_FLOAT32})
_ROUNDING = 1e-9  # accuracies are counts over counts: 0.98 - 0.97 must not exceed 0.01


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether a variant is published; `refusal` is why it is not, or why it is only by force."""

    is_published: bool
    is_forced: bool
    refusal: str


def decide(
    model_format: str,
    *,
    float_accuracy: float,
    accuracy: float,
    speedup: float | None,
    settings: job.GateSettings,
) -> Decision:
    """Decide about one variant.

    Args:
        model_format: one of `job.FORMATS`.
        float_accuracy: top-1 of the float model on the test split.
        accuracy: top-1 of the variant on the same.
        speedup: latency of tflite_float32 over the variant's; None where it was not measured.
        settings: `spec.output.gate`.
    """
    refusal = ""
    if model_format not in _FLOAT_FORMATS:
        refusal = " ".join(
            filter(None, (_refuse_accuracy(float_accuracy, accuracy, settings), _refuse_speed(speedup, settings)))
        )
    return Decision(
        is_published=not refusal or settings.force, is_forced=bool(refusal) and settings.force, refusal=refusal
    )


def _refuse_accuracy(float_accuracy: float, accuracy: float, settings: job.GateSettings) -> str:
    drop = float_accuracy - accuracy
    if drop <= settings.max_accuracy_drop + _ROUNDING:
        return ""
    return (
        f"accuracy drop must be at most {settings.max_accuracy_drop:g} (spec.output.gate.maxAccuracyDrop), got "
        f"{drop:.4f}: {accuracy:.4f} against {float_accuracy:.4f} of the float model."
    )


def _refuse_speed(speedup: float | None, settings: job.GateSettings) -> str:
    if settings.min_speedup is None or speedup is None or speedup >= settings.min_speedup:
        return ""
    return (
        f"speed must be at least {settings.min_speedup:g} times that of tflite_float32 (spec.output.gate.minSpeedup), "
        f"got {speedup:.2f} times."
    )
