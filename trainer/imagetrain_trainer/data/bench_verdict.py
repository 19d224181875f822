"""Which stage of the input bounds, and what to change. Pure: figures in, words out.

Stages overlap, so the input is as fast as the scarcest of three things: the store (GET), the processor cores (the sum
of all stages' processor time), and the one thread at a time that runs Python (CRC, parse and the making of batches).
"""

import dataclasses
from collections.abc import Sequence

from imagetrain_trainer.data import bench, dataset

_PYTHON_STAGES = ("crc", "parse", "batch")
_CPU_STAGES = ("get", "crc", "parse", "batch", "decode", "augment")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One of the things that bound the input.

    Attributes:
        name: "storage", "cores", "python" or "copy".
        images_per_second: that it allows.
        stage: the stage that takes most of it.
    """

    name: str
    images_per_second: float
    stage: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What bounds, and what to do; `limits` are sorted, the tightest first."""

    limits: tuple[Limit, ...]
    advice: tuple[str, ...]

    @property
    def bound(self) -> Limit:
        """The tightest limit."""
        return self.limits[0]


def judge(
    stages: Sequence[bench.Stage],
    *,
    cores: int,
    image: dataset.ImageFacts,
    input_shape: Sequence[int] | None,
    is_resident: bool,
) -> Verdict:
    """Find the tightest limit.

    Args:
        stages: what was measured; those that are missing bound nothing.
        cores: processor cores that the process may use.
        image: what the data set says of its images.
        input_shape: (height, width, channels) of the model, where images were decoded.
        is_resident: whether the split stays in memory after it was read once, so that the store does not bound.
    """
    known = {stage.name: stage for stage in stages}
    limits = [
        _limit("cores", cores, [known[name] for name in _CPU_STAGES if name in known]),
        _limit("python", 1, [known[name] for name in _PYTHON_STAGES if name in known]),
    ]
    if "get" in known and not is_resident:
        limits.append(Limit(name="storage", images_per_second=known["get"].images_per_second, stage="get"))
    if "copy" in known:
        limits.append(Limit(name="copy", images_per_second=known["copy"].images_per_second, stage="copy"))
    limits.sort(key=lambda limit: limit.images_per_second)
    return Verdict(limits=tuple(limits), advice=_advise(limits[0], image, input_shape))


def _limit(name: str, at_a_time: int, stages: Sequence[bench.Stage]) -> Limit:
    seconds = sum(stage.cpu_seconds_per_image for stage in stages)
    largest = max(stages, key=lambda stage: stage.cpu_seconds_per_image)
    return Limit(name=name, images_per_second=at_a_time / max(seconds, 1e-9), stage=largest.name)


def _advise(bound: Limit, image: dataset.ImageFacts, input_shape: Sequence[int] | None) -> tuple[str, ...]:
    if bound.name == "storage":
        smaller = _advise_smaller(image, input_shape)
        return (
            "Keep what is read on a local disk: spec.data.cache.",
            *smaller,
            "Move the bucket nearer, or add workers: each reads its own part.",
        )
    if bound.name == "copy":
        return ("Lower spec.model.inputShape, or use more workers: each copies its own part.",)
    advice = {
        "decode": _advise_decoding(image, input_shape),
        "augment": ("Leave out what spec.training.augmentation can do without: rotation, shift and zoom cost most.",),
        "get": ("Keep what is read on a local disk: spec.data.cache.",),
    }.get(bound.stage, _advise_smaller(image, input_shape))
    what = "more CPU (spec.worker.resources)" if bound.name == "cores" else "more workers"
    return (*advice, f"Give the job {what}.")


def _advise_decoding(image: dataset.ImageFacts, input_shape: Sequence[int] | None) -> tuple[str, ...]:
    if image.encoding == "raw" or input_shape is None:
        return ()
    height, width = input_shape[:2]
    raw = (
        f"Pack decoded images, which take {height * width * image.channels:,} bytes each and need no decoding: "
        f"imagetrain data pack --encoding raw --size {height}x{width}."
    )
    return (*_advise_smaller(image, input_shape), raw)


def _advise_smaller(image: dataset.ImageFacts, input_shape: Sequence[int] | None) -> tuple[str, ...]:
    """Say how to pack smaller images, where they are much larger than what the model sees."""
    if input_shape is None or image.encoding == "raw":
        return ()
    # Random windows of an image want some more pixels than the model takes: 256 for 224 is the usual choice.
    wanted = round(max(input_shape[:2]) * 8 / 7)
    if max(image.max_height, image.max_width) <= wanted * 1.1:
        return ()
    return (f"Pack smaller images: imagetrain data pack --encoding jpeg --longest-side {wanted}.",)
