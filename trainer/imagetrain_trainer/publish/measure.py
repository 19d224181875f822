"""Measuring variants on the test split: one pass for accuracy, then single-image latency with the variants interleaved.

The machine's speed drifts while it measures. Each latency round times every variant once, so that a drift slows all of
them alike and ratios of medians stay fair.
"""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from imagetrain_trainer import errors

Images = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.float32]
OnBatch = Callable[[Images, npt.NDArray[np.integer], Probabilities], None]

_WARM_UP_ROUNDS = 10
_MIN_ROUNDS = 20
_MAX_ROUNDS = 300
_TINY = float(np.finfo(np.float32).tiny)  # a probability that rounded to 0 has at most this one's logarithm


class Runner(Protocol):
    """A loaded model."""

    def probabilities(self, images: Images) -> Probabilities:
        """Classify images (n, height, width, channels); returns (n, classes)."""

    def set_images(self, images: Images) -> None:
        """Give the next invocation its images."""

    def invoke(self) -> None:
        """Run the network once."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Top-1 of one variant on the test split, and the share of samples where its answer is the float model's."""

    accuracy: float
    agreement: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The test split as the variants see it.

    Attributes:
        samples: samples in the split.
        loss: mean cross entropy of the float model, in nats.
        confusion_matrix: (classes, classes) counts of the float model; rows are true classes, columns its answers.
        by_format: accuracy of each variant.
    """

    samples: int
    loss: float
    confusion_matrix: npt.NDArray[np.int64]
    by_format: Mapping[str, Accuracy]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds of one single-image inference."""

    median_ms: float
    p95_ms: float


def evaluate(
    runners: Mapping[str, Runner],
    reference: str,
    batches: Iterable[tuple[Images, npt.NDArray[np.integer]]],
    classes: int,
    on_batch: OnBatch = lambda images, labels, probabilities: None,
) -> Evaluation:
    """Run every variant over the test split, batch by batch, so that the split is read once and never held whole.

    Args:
        runners: variants by format.
        reference: key of the float model that the others are held against.
        batches: pairs of images (n, height, width, channels) and labels (n,).
        classes: number of classes.
        on_batch: called with each batch and the float model's probabilities (n, classes).

    Raises:
        ConfigError: the split is empty.
        NonFiniteLossError: the float model answers with what is not a number.
    """
    confusion = np.zeros((classes, classes), np.int64)
    correct, agreeing = dict.fromkeys(runners, 0), dict.fromkeys(runners, 0)
    loss_sum = 0.0
    for images, labels in batches:
        probabilities = runners[reference].probabilities(images)
        answers = probabilities.argmax(axis=1)
        np.add.at(confusion, (labels, answers), 1)
        likelihood = probabilities[np.arange(len(labels)), labels].astype(np.float64)
        loss_sum -= float(np.log(np.maximum(likelihood, _TINY)).sum())
        for name, runner in runners.items():
            own = answers if name == reference else runner.probabilities(images).argmax(axis=1)
            correct[name] += int((own == labels).sum())
            agreeing[name] += int((own == answers).sum())
        on_batch(images, labels, probabilities)
    samples = int(confusion.sum())
    _check(samples, loss_sum)
    by_format = {
        name: Accuracy(accuracy=correct[name] / samples, agreement=agreeing[name] / samples) for name in runners
    }
    return Evaluation(samples=samples, loss=loss_sum / samples, confusion_matrix=confusion, by_format=by_format)


def _check(samples: int, loss_sum: float) -> None:
    if samples == 0:
        raise errors.ConfigError(
            "spec.data.uri must name a data set with test samples, got none. Pack it with a test ratio above 0."
        )
    if not np.isfinite(loss_sum):
        raise errors.NonFiniteLossError(
            "The trained model must give finite probabilities on the test split, got NaN. Lower the learning rate."
        )


def measure_latency(
    runners: Mapping[str, Runner], image: Images, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Latency]:
    """Time single-image inference of each variant in rounds, each variant once a round.

    Args:
        runners: variants by format, with a batch of one.
        image: (height, width, channels).
        seconds: about how long to measure, after a warm-up; at least 20 and at most 300 rounds are run.
        clock: seconds, monotonic.
    """
    for runner in runners.values():
        runner.set_images(image[np.newaxis])
        for _ in range(_WARM_UP_ROUNDS):
            runner.invoke()
    times: dict[str, list[float]] = {name: [] for name in runners}
    end = clock() + seconds
    for round_number in range(_MAX_ROUNDS):
        if round_number >= _MIN_ROUNDS and clock() > end:
            break
        for name, runner in runners.items():
            start = clock()
            runner.invoke()
            times[name].append(clock() - start)
    return {name: _summarize(each) for name, each in times.items()}


def _summarize(seconds: list[float]) -> Latency:
    median, p95 = np.percentile(seconds, (50, 95)) * 1000
    return Latency(median_ms=float(median), p95_ms=float(p95))
