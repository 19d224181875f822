import sys

import keras
import numpy as np
import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.models import normalization, registry

NEWCOMER = """
import keras
from imagetrain_trainer.models import registry

@registry.register("tiny_net")
def build_tiny_net(images, context, *, width: int = 4):
    features = keras.layers.Conv2D(width, 3, strides=2, activation="relu")(images)
    return context.classifier(keras.layers.GlobalAveragePooling2D()(features))
"""


def build(architecture="small_cnn", *, input_shape=(8, 8, 1), classes=3, **options):
    return registry.build_model(architecture, input_shape=input_shape, classes=classes, options=options)


@pytest.fixture
def user_modules(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_architectures", dict(registry._architectures))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_both_architectures_are_built_in():
    assert registry.architecture_names() == ("mobilenet_v2", "small_cnn")


def test_a_newcomer_adds_an_architecture_in_five_lines(user_modules):
    (user_modules / "my_nets.py").write_text(NEWCOMER)
    registry.load_module("my_nets")
    model = build("tiny_net", width=5)
    assert model.output_shape == (None, 3)
    assert model.layers[-1].kernel.shape == (5, 3)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_pixels_of_either_type_give_the_same_float32_logits(dtype):
    keras.utils.set_random_seed(1)
    model = build()
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1))
    logits = model(images.astype(dtype), training=False)
    assert logits.dtype == "float32"
    np.testing.assert_array_equal(logits, model(images.astype("float32"), training=False))


def test_the_same_seed_gives_the_same_weights_and_the_same_dropout():
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1)).astype("float32")
    logits = []
    for _ in range(2):
        keras.utils.set_random_seed(7)
        model = build(dropout=0.5)
        logits.append(np.asarray(model(images, training=True)))
    np.testing.assert_array_equal(*logits)


def test_logits_are_float32_under_mixed_precision():
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        model = build()
        assert model.output.dtype == "float32"
        assert model.get_layer("rescale").compute_dtype == "bfloat16"
    finally:
        keras.mixed_precision.set_dtype_policy("float32")


@pytest.mark.parametrize(
    ("is_synchronized", "kind"),
    [(True, normalization.SynchronizedBatchNormalization), (False, keras.layers.BatchNormalization)],
)
@pytest.mark.parametrize("name", ["small_cnn", "mobilenet_v2"])
def test_every_batch_normalization_spans_what_the_job_asks_for(name, is_synchronized, kind):
    model = registry.build_model(name, input_shape=(28, 28, 1), classes=2, synchronized_batch_norm=is_synchronized)
    found = {type(layer) for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)}
    assert found == {kind}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"architecture": "small_cn"},
            "spec.model.architecture must be one of mobilenet_v2, small_cnn, got 'small_cn'. Did you mean 'small_cnn'?",
        ),
        (
            {"architecture": "vit"},
            (
                "spec.model.architecture must be one of mobilenet_v2, small_cnn, got 'vit'. "
                "An architecture of your own needs spec.model.module."
            ),
        ),
        (
            {"dropuot": 0.1},
            (
                "spec.model.options.dropuot must be left out: this setting does not exist, got 0.1. "
                "Did you mean spec.model.options.dropout?"
            ),
        ),
        ({"dropout": 1}, "spec.model.options.dropout must be a number >= 0 and < 1, got 1.0."),
        ({"dropout": "0.1"}, "spec.model.options.dropout must be a number >= 0 and < 1, got '0.1'."),
        (
            {"input_shape": (4, 9, 1)},
            (
                "spec.model.inputShape must be at least 8 pixels high and wide for small_cnn, got [4, 9, 1]. "
                "Pack larger images."
            ),
        ),
        (
            {"architecture": "mobilenet_v2", "input_shape": (8, 8, 3)},
            (
                "spec.model.inputShape must be at least 12 pixels high and wide for mobilenet_v2, got [8, 8, 3]. "
                "Pack larger images."
            ),
        ),
        ({"input_shape": (28, 28)}, "spec.model.inputShape must be [height, width, channels], got [28, 28]."),
        (
            {"architecture": "mobilenet_v2", "input_shape": (28, 28, 1), "outputStride": 12},
            "spec.model.options.outputStride must be one of (4, 8, 16, 32), got 12.",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_with_the_field_and_the_fix(arguments, message):
    with pytest.raises(errors.ConfigError) as refusal:
        build(**arguments)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            None,
            (
                "spec.model.module must be importable, got 'my_nets': ModuleNotFoundError: No module named 'my_nets'. "
                "Install it, or put its folder on PYTHONPATH."
            ),
        ),
        (
            "import absent_dependency",
            (
                "spec.model.module must be importable, got 'my_nets': ModuleNotFoundError: "
                "No module named 'absent_dependency'. Install what it imports."
            ),
        ),
        (
            "1 / 0",
            (
                "spec.model.module must be importable, got 'my_nets', which raised ZeroDivisionError: "
                "division by zero. Import it in Python to see where."
            ),
        ),
        (
            NEWCOMER.replace("tiny_net", "small_cnn"),
            (
                "An architecture must have a name of its own, got 'small_cnn' from my_nets.build_small_cnn. "
                "imagetrain_trainer.models.small_cnn.build_small_cnn has it already: register under another name."
            ),
        ),
    ],
)
def test_a_module_that_cannot_be_used_is_refused_with_the_cause(user_modules, source, message):
    if source is not None:
        (user_modules / "my_nets.py").write_text(source)
    with pytest.raises(errors.ConfigError) as refusal:
        registry.load_module("my_nets")
    assert str(refusal.value) == message


def test_a_newcomers_mistakes_name_the_setting(user_modules):
    (user_modules / "my_nets.py").write_text(NEWCOMER.replace("context.classifier", "").replace(", 3,", ", 9,"))
    registry.load_module("my_nets")
    with pytest.raises(errors.ConfigError, match=r"inputShape must suit tiny_net, got \[8, 8, 1\]"):
        build("tiny_net")
    with pytest.raises(errors.ConfigError, match=r"tiny_net must return logits of shape \(batch, 3\), got \(None, 4\)"):
        build("tiny_net", input_shape=(12, 12, 1))


def test_options_of_an_architecture_can_be_listed():
    options = {option.key: option.setting.doc for option in registry.architecture_options("mobilenet_v2")}
    assert list(options) == ["alpha", "dropout", "outputStride"]
    assert all(options.values())
