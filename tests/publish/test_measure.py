import itertools

import numpy as np
import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.publish import confusion, measure


class TableRunner:
    """Answers with the class that the first pixel of an image names, changed for chosen images."""

    def __init__(self, changes=None, confidence=0.8):
        self._changes, self._confidence = changes or {}, confidence
        self.invocations = 0

    def probabilities(self, images):
        result = np.full((len(images), 3), (1 - self._confidence) / 2, np.float32)
        for row, image in enumerate(images):
            result[row, self._changes.get(int(image[0, 1, 0]), int(image[0, 0, 0]))] = self._confidence
        return result

    def set_images(self, images):
        assert images.shape == (1, 2, 2, 1)

    def invoke(self):
        self.invocations += 1


def batches(sizes, labels=None):
    """Return images whose first pixel is their class and whose second is their number."""
    start = 0
    for size in sizes:
        numbers = np.arange(start, start + size)
        images = np.zeros((size, 2, 2, 1), np.uint8)
        images[:, 0, 0, 0], images[:, 0, 1, 0] = numbers % 3, numbers
        yield images, (numbers % 3 if labels is None else labels[numbers]).astype(np.int32)
        start += size


def test_every_variant_is_counted_on_every_sample_whatever_the_batches():
    runners = {"float": TableRunner({4: 0}), "int8": TableRunner({4: 0, 5: 1, 6: 2})}
    seen = []
    evaluation = measure.evaluate(runners, "float", batches([7, 1, 4]), 3, lambda *batch: seen.append(len(batch[0])))
    assert evaluation.samples == 12
    assert seen == [7, 1, 4]
    assert evaluation.by_format["float"] == measure.Accuracy(accuracy=11 / 12, agreement=1.0)
    assert evaluation.by_format["int8"] == measure.Accuracy(accuracy=9 / 12, agreement=10 / 12)
    assert evaluation.confusion_matrix.tolist() == [[4, 0, 0], [1, 3, 0], [0, 0, 4]]
    assert evaluation.loss == pytest.approx(-(11 * np.log(0.8) + np.log(0.1)) / 12, rel=1e-6)


def test_a_probability_that_rounded_to_zero_has_a_finite_loss():
    evaluation = measure.evaluate({"float": TableRunner({0: 1}, confidence=1.0)}, "float", batches([1]), 3)
    assert 80 < evaluation.loss < 100


def test_an_empty_test_split_is_refused():
    with pytest.raises(errors.ConfigError, match=r"spec\.data\.uri must name a data set with test samples, got none"):
        measure.evaluate({"float": TableRunner()}, "float", iter(()), 3)


def test_a_model_that_answers_nan_is_refused():
    with pytest.raises(errors.NonFiniteLossError):
        measure.evaluate({"float": TableRunner(confidence=np.nan)}, "float", batches([2]), 3)


def test_latency_takes_turns_and_ends_in_time():
    order = []

    class Timed(TableRunner):
        def __init__(self, name, seconds):
            super().__init__()
            self._name, self._seconds = name, seconds

        def invoke(self):
            order.append(self._name)
            now[0] += self._seconds

    now = [0.0]
    runners = {"slow": Timed("slow", 0.03), "fast": Timed("fast", 0.01)}
    latencies = measure.measure_latency(runners, np.zeros((2, 2, 1), np.uint8), 1.0, clock=lambda: now[0])
    assert latencies["slow"].median_ms == pytest.approx(30)
    assert latencies["fast"].p95_ms == pytest.approx(10)
    timed = order[20:]  # ten warm-up invocations of each come first
    assert timed == ["slow", "fast"] * (len(timed) // 2)
    assert 25 <= len(timed) // 2 <= 27  # 1 s of 40 ms a round


def test_a_slow_model_is_still_timed_twenty_times():
    clock = itertools.count()
    latencies = measure.measure_latency(
        {"one": (runner := TableRunner())}, np.zeros((2, 2, 1), np.uint8), 1.0, clock.__next__
    )
    assert runner.invocations == 30
    assert latencies["one"].median_ms == 1000


def test_the_manifests_test_figures_come_from_the_confusion_matrix():
    labels = np.array([0, 1, 1, 0, 1, 2, 0, 1, 2], np.int32)
    evaluation = measure.evaluate({"float": TableRunner()}, "float", batches([9], labels), 4)
    described = confusion.describe_test(evaluation, ("a", "b", "c", "d"))
    assert described["samples"] == 9
    assert described["accuracy"] == pytest.approx(8 / 9)
    assert described["recall"] == [1.0, 0.75, 1.0, None]  # class d has no sample
    assert described["confusion_matrix"][1][2] == 1
    assert described["top_confusions"] == [{"label": "b", "predicted": "c", "count": 1}]


def test_a_matrix_of_many_classes_is_left_out_and_the_worst_pairs_stay():
    matrix = np.eye(101, dtype=np.int64) * 5
    matrix[3, 7] = 4
    matrix[9, 2] = 6
    evaluation = measure.Evaluation(samples=int(matrix.sum()), loss=0.1, confusion_matrix=matrix, by_format={})
    described = confusion.describe_test(evaluation, tuple(str(index) for index in range(101)))
    assert "confusion_matrix" not in described
    assert [each["count"] for each in described["top_confusions"]] == [6, 4]
    assert described["recall"][9] == pytest.approx(5 / 11)
