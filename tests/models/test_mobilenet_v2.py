import keras
import numpy as np
import pytest

from imagetrain_trainer.models import mobilenet_v2, registry


@pytest.mark.parametrize(
    ("side_pixels", "stride", "strides"),
    [
        (12, 4, (1, 1, 1, 1, 2, 1, 2, 1)),
        (28, 8, (1, 1, 1, 2, 2, 1, 2, 1)),
        (32, 8, (1, 1, 1, 2, 2, 1, 2, 1)),
        (48, 16, (1, 1, 2, 2, 2, 1, 2, 1)),
        (96, 32, (2, 1, 2, 2, 2, 1, 2, 1)),  # the paper's
        (224, 32, (2, 1, 2, 2, 2, 1, 2, 1)),
    ],
)
def test_small_images_drop_the_early_strides(side_pixels, stride, strides):
    assert mobilenet_v2.choose_output_stride(side_pixels) == stride
    assert mobilenet_v2.plan_strides(stride) == strides


@pytest.mark.parametrize("alpha", [0.35, 1.0, 1.4])
def test_the_layers_are_those_of_the_reference(alpha):
    ours = registry.build_model("mobilenet_v2", input_shape=(96, 96, 3), classes=7, options={"alpha": alpha})
    reference = keras.applications.MobileNetV2(
        (96, 96, 3), alpha=alpha, weights=None, classes=7, classifier_activation=None
    )
    assert [weight.shape for weight in ours.weights] == [weight.shape for weight in reference.weights]


def test_padding_is_that_of_the_reference():
    ours = registry.build_model("mobilenet_v2", input_shape=(100, 96, 3), classes=7, options={"alpha": 0.35})
    reference = keras.applications.MobileNetV2(
        (100, 96, 3), alpha=0.35, weights=None, classes=7, classifier_activation=None
    )
    reference.set_weights(ours.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (2, 100, 96, 3)).astype("float32")
    np.testing.assert_allclose(ours(images), reference(images / 255), atol=1e-5)
