import base64
import io

import numpy as np
import pytest
from PIL import Image

from imagetrain_trainer.publish import samples

CLASSES = tuple(f"class {index}" for index in range(20))


def answers(pairs):
    """Return labels (n,) and probabilities (n, 20) of (label, answer, probability)."""
    labels = np.array([label for label, _, _ in pairs])
    probabilities = np.zeros((len(pairs), 20), np.float32)
    for row, (_, answer, probability) in enumerate(pairs):
        probabilities[row, answer] = probability
    return labels, probabilities


def test_confident_mistakes_come_first_then_one_right_answer_of_each_class():
    collector = samples.SampleCollector(CLASSES)
    pairs = [(index % 20, index % 20, 0.5 + index / 1000) for index in range(100)]
    pairs += [(0, 1, 0.3 + index / 100) for index in range(30)]
    for start in range(0, len(pairs), 7):
        part = pairs[start : start + 7]
        collector.add(np.zeros((len(part), 8, 8, 1), np.uint8), *answers(part))
    collected = collector.collect()
    wrong, right = collected[:12], collected[12:]
    assert [each["probability"] for each in wrong] == pytest.approx([0.59 - index / 100 for index in range(12)])
    assert {(each["label"], each["predicted"]) for each in wrong} == {("class 0", "class 1")}
    assert [each["label"] for each in right] == [f"class {index}" for index in range(12)]
    assert all(each["label"] == each["predicted"] for each in right)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_small_image_keeps_its_pixels(channels):
    image = np.random.default_rng(1).integers(0, 256, (8, 6, channels)).astype(np.uint8)
    decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(samples.encode_png(image)))))
    assert np.array_equal(decoded.reshape(image.shape), image)


def test_a_large_image_is_made_smaller():
    encoded = samples.encode_png(np.zeros((1000, 500, 3), np.uint8))
    assert Image.open(io.BytesIO(base64.b64decode(encoded))).size == (80, 160)
