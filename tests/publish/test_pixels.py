import io

import numpy as np
import pytest
from PIL import Image

from imagetrain_trainer import errors
from imagetrain_trainer.publish import pixels


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(5).integers(0, 256, (57, 83, 3)).astype(np.uint8)


def test_an_image_of_the_models_size_keeps_its_pixels(noise):
    assert np.array_equal(pixels.load_pixels(encode(noise), noise.shape), noise)


@pytest.mark.parametrize("size", [(28, 28), (8, 120), (200, 90), (57, 40), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("JPEG", {"quality": 90}), ("JPEG", {"quality": 60, "subsampling": 2})]
)
def test_pixels_are_those_of_the_training_pipeline(noise, size, channels, kind, options):
    from imagetrain_trainer.data import pipeline  # noqa: PLC0415

    smooth = np.asarray(Image.fromarray(noise).resize((83, 57), reducing_gap=None).resize((20, 20)).resize((83, 57)))
    for image in (noise, smooth):
        payload = encode(image[:, :, :channels], kind, **options)
        expected = pipeline.decode_image(payload, channels, *size).numpy().astype(int)
        assert np.abs(pixels.load_pixels(payload, (*size, channels)).astype(int) - expected).max() <= 1


def test_grey_is_repeated_for_a_colour_model(noise):
    loaded = pixels.load_pixels(encode(noise[:, :, :1]), (57, 83, 3))
    assert np.array_equal(loaded, np.repeat(noise[:, :, :1], 3, axis=2))


def test_colour_is_dropped_for_a_grey_model(noise):
    loaded = pixels.load_pixels(encode(noise), (57, 83, 1))
    assert np.abs(loaded[:, :, 0] - noise @ [0.299, 0.587, 0.114]).max() <= 1


@pytest.mark.parametrize("data", [b"", b"text", b"\x89PNG\r\n\x1a\n broken"])
def test_what_is_no_image_is_refused_by_name(data):
    with pytest.raises(errors.ConfigError) as caught:
        pixels.load_pixels(data, (8, 8, 1))
    named = str(pixels.name_rule(caught.value, "cat.png"))
    assert named.startswith("cat.png must be ")
    assert named.endswith("Give PNG or JPEG images.")


def test_a_truncated_image_is_refused(noise):
    with pytest.raises(errors.ConfigError, match="must be"):
        pixels.load_pixels(encode(noise)[:2000], (8, 8, 1))
