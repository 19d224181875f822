import pytest

from imagetrain_api import job
from imagetrain_trainer.publish import gate

DEFAULT = job.GateSettings()
FAST = job.GateSettings(min_speedup=1.5)
FORCED = job.GateSettings(min_speedup=1.5, force=True)
STRICT = job.GateSettings(max_accuracy_drop=0)


@pytest.mark.parametrize(
    ("model_format", "accuracy", "speedup", "settings", "is_published", "is_forced", "refused_for"),
    [
        ("tflite_int8", 0.98, 2.5, DEFAULT, True, False, ()),
        ("tflite_int8", 0.97, 2.5, DEFAULT, True, False, ()),  # a drop of exactly 0.01, which rounds to more
        ("tflite_int8", 0.9699, 2.5, DEFAULT, False, False, ("accuracy",)),
        ("tflite_int8", 0.99, 2.5, STRICT, True, False, ()),  # better than float
        ("tflite_int8", 0.9799, 2.5, STRICT, False, False, ("accuracy",)),
        ("tflite_dynamic", 0.98, 0.5, DEFAULT, True, False, ()),  # slow, but nobody asked
        ("tflite_dynamic", 0.98, 0.5, FAST, False, False, ("speed",)),
        ("tflite_dynamic", 0.98, 1.5, FAST, True, False, ()),
        ("tflite_dynamic", 0.98, None, FAST, True, False, ()),  # nothing to compare with
        ("tflite_float16", 0.5, 0.9, FAST, False, False, ("accuracy", "speed")),
        ("tflite_float16", 0.5, 0.9, FORCED, True, True, ("accuracy", "speed")),
        ("tflite_float16", 0.98, 1.6, FORCED, True, False, ()),  # force changes nothing where nothing is refused
        ("tflite_float32", 0.5, 1.0, FAST, True, False, ()),  # the float model is what the others are held against
        ("saved_model", 0.98, 0.1, FAST, True, False, ()),
    ],
)
def test_gate(model_format, accuracy, speedup, settings, is_published, is_forced, refused_for):
    decision = gate.decide(model_format, float_accuracy=0.98, accuracy=accuracy, speedup=speedup, settings=settings)
    assert (decision.is_published, decision.is_forced) == (is_published, is_forced)
    assert bool(decision.refusal) == bool(refused_for)
    assert ("maxAccuracyDrop" in decision.refusal) == ("accuracy" in refused_for)
    assert ("minSpeedup" in decision.refusal) == ("speed" in refused_for)


def test_a_refusal_names_the_setting_the_bound_and_both_figures():
    decision = gate.decide("tflite_int8", float_accuracy=0.98, accuracy=0.95, speedup=0.5, settings=FAST)
    assert decision.refusal == (
        "accuracy drop must be at most 0.01 (spec.output.gate.maxAccuracyDrop), got 0.0300: 0.9500 against 0.9800 of "
        "the float model. speed must be at least 1.5 times that of tflite_float32 (spec.output.gate.minSpeedup), got "
        "0.50 times."
    )
