import keras
import numpy as np
import pytest

from imagetrain_trainer.models import registry, small_cnn


@pytest.mark.parametrize(
    ("side_pixels", "halvings"), [(8, 0), (16, 0), (17, 1), (28, 1), (32, 1), (33, 2), (64, 2), (96, 3)]
)
def test_the_stem_halves_images_to_16_pixels(side_pixels, halvings):
    assert small_cnn.count_stem_halvings(side_pixels) == halvings


@pytest.mark.parametrize("input_shape", [(8, 8, 1), (9, 31, 3), (28, 28, 1), (64, 64, 3)])
def test_sizes_from_8_to_64_pixels_are_built_and_leave_at_most_16_positions_a_square(input_shape):
    model = registry.build_model("small_cnn", input_shape=input_shape, classes=5, options={"width": 16})
    images = np.zeros((2, *input_shape), np.uint8)
    assert model(images).shape == (2, 5)
    side_pixels = min(input_shape[:2])
    if side_pixels == max(input_shape[:2]):
        assert model.get_layer("logits").kernel.shape[0] <= 16 * 4 * 16


def test_width_scales_every_convolution():
    model = registry.build_model("small_cnn", input_shape=(28, 28, 1), classes=10, options={"width": 16})
    widths = [layer.filters for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert widths == [16, 32, 32, 64, 64]
