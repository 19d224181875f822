import dataclasses

import numpy as np
import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.publish import lite_runtime

FLOAT_FORMATS = ("tflite_float32", "tflite_dynamic", "tflite_float16")


def runner(tiny, model_format, **options):
    return lite_runtime.LiteRunner(tiny.built[model_format].path, **options)


@pytest.mark.parametrize(
    ("model_format", "input_type", "quantization"),
    [*((each, "float32", (0.0, 0)) for each in FLOAT_FORMATS), ("tflite_int8", "uint8", (1.0, 0))],
)
def test_every_format_takes_pixels_as_they_are(tiny, model_format, input_type, quantization):
    loaded = runner(tiny, model_format)
    assert (loaded.input_type, loaded.output_type) == (input_type, input_type)
    assert loaded.input_quantization == quantization
    assert loaded.input_shape == (8, 8, 1)
    assert loaded.classes == 3


def test_int8_holds_integers_only(tiny):
    assert runner(tiny, "tflite_int8").tensor_types() == {"int8", "int32", "uint8"}


def test_all_formats_agree_with_the_float_model(tiny):
    expected = runner(tiny, "tflite_float32").probabilities(tiny.images)
    assert np.allclose(expected.sum(axis=1), 1, atol=1e-5)
    assert (expected.argmax(axis=1) == tiny.labels).mean() > 0.95
    for model_format, tolerance in (("tflite_float16", 0.01), ("tflite_dynamic", 0.1), ("tflite_int8", 0.15)):
        got = runner(tiny, model_format).probabilities(tiny.images)
        assert np.abs(got - expected).max() < tolerance, model_format
        assert (got.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.95, model_format


@pytest.mark.parametrize("model_format", [*FLOAT_FORMATS, "tflite_int8"])
def test_batches_give_the_answers_of_single_images(tiny, model_format):
    single = runner(tiny, model_format).probabilities(tiny.images[:21])
    batched = runner(tiny, model_format, batch_size=8, threads=2).probabilities(tiny.images[:21])
    assert np.allclose(single, batched, atol=1e-5)


def test_no_images_give_no_answers(tiny):
    assert runner(tiny, "tflite_int8").probabilities(tiny.images[:0]).shape == (0, 3)


def test_sizes_shrink_as_the_weights_do(tiny):
    sizes = {name: model.size_bytes for name, model in tiny.built.items()}
    assert sizes["tflite_int8"] < sizes["tflite_float16"] < sizes["tflite_float32"]
    assert sizes["saved_model"] == sum(
        each.stat().st_size for each in tiny.built["saved_model"].path.rglob("*") if each.is_file()
    )


@pytest.fixture(scope="module")
def sources(tiny, tmp_path_factory):
    """Return the folders of two exports of one model."""
    from imagetrain_trainer.publish import export  # noqa: PLC0415

    model = export.rebuild_in_float32(tiny.model, tiny.spec.model, 3)
    folders = [tmp_path_factory.mktemp("source") / "model" for _ in range(2)]
    for folder in folders:
        export.export_for_conversion(model, folder)
    return folders


def test_int8_input_is_the_pixel_less_128(tiny, sources, tmp_path):
    from imagetrain_trainer.publish import tflite  # noqa: PLC0415

    dark = tiny.images[:10] // 4  # the samples' brightest pixel does not set the input's range
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite.convert("tflite_int8", sources[0], dark, "int8"))
    loaded = tflite.check("tflite_int8", path)
    assert (loaded.input_type, loaded.output_type) == ("int8", "int8")
    assert loaded.input_quantization == (1.0, -128)
    assert loaded.tensor_types() == {"int8", "int32"}
    answers = loaded.probabilities(dark).argmax(axis=1)
    assert (answers == runner(tiny, "tflite_float32").probabilities(dark).argmax(axis=1)).mean() >= 0.9


def test_converting_another_export_of_a_model_gives_the_same_bytes(tiny, sources):
    from imagetrain_trainer.publish import tflite  # noqa: PLC0415

    for model_format in ("tflite_float32", "tflite_int8"):
        first, again = (tflite.convert(model_format, source, tiny.images[:20], "uint8") for source in sources)
        assert first == again, model_format


def test_an_operator_that_tflite_lacks_is_refused_and_named(tmp_path):
    import tensorflow as tf  # noqa: PLC0415

    from imagetrain_trainer.publish import tflite  # noqa: PLC0415

    module = tf.Module()
    spec = tf.TensorSpec((None, 8, 8, 1), tf.float32, name="images")
    module.infer = tf.function(lambda images: {"probabilities": tf.raw_ops.Digamma(x=images)[:, :3, 0, 0]}, [spec])
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"serving_default": module.infer})
    with pytest.raises(errors.ConfigError, match=r"spec\.output\.formats must be what .*'tflite_float32'.*Digamma"):
        tflite.convert("tflite_float32", tmp_path / "model", np.zeros((1, 8, 8, 1), np.uint8))


def test_a_float_model_does_not_pass_for_int8(tiny):
    from imagetrain_trainer.publish import tflite  # noqa: PLC0415

    with pytest.raises(errors.ConfigError, match="must hold integers only, got float32"):
        tflite.check("tflite_int8", tiny.built["tflite_dynamic"].path)


@pytest.mark.parametrize("content", [b"", b"not a model", None])
def test_a_damaged_file_is_named(tiny, tmp_path, content):
    path = tmp_path / "model.tflite"
    path.write_bytes(tiny.built["tflite_int8"].path.read_bytes()[:5000] if content is None else content)
    with pytest.raises(errors.DataCorruptError, match=r"model\.tflite must be a TFLite image classifier"):
        lite_runtime.LiteRunner(path)


@pytest.mark.parametrize(
    ("formats", "min_speedup", "expected"),
    [
        (("tflite_int8",), None, ["saved_model", "tflite_int8"]),
        (("tflite_int8",), 1.5, ["saved_model", "tflite_float32", "tflite_int8"]),  # the speed-up is over it
        (("saved_model",), None, ["saved_model"]),
        (("tflite_int8", "tflite_float16"), None, ["saved_model", "tflite_float16", "tflite_int8"]),
    ],
)
def test_what_has_to_be_built(tiny_spec, formats, min_speedup, expected):
    from imagetrain_trainer.publish import build  # noqa: PLC0415

    gate = dataclasses.replace(tiny_spec.output.gate, min_speedup=min_speedup)
    assert build.plan_formats(dataclasses.replace(tiny_spec.output, formats=formats, gate=gate)) == expected
