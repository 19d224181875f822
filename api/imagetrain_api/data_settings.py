"""Settings of `spec.data`: which samples, how often each, and how they are read."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from imagetrain_api import quantities, uris
from imagetrain_api.schema import Document, Rule, setting

_MAX_CLASSES = 10_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSettings(Document):
    """`spec.data.sampling`: how often the images of each class appear in an epoch."""

    balance: str = setting(
        default="none",
        doc="Every image once an epoch, every class equally often, or the classes by classWeights.",
        choices=("none", "classes", "weights"),
    )
    class_weights: Mapping[str, float] = setting(
        default_factory=dict,
        doc="How often an image of a class appears, relative to other images; 1 for a class that is not named.",
        exclusive_minimum=0,
        maximum=1000,
        max_properties=_MAX_CLASSES,
    )

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "class_weights",
            "be given if, and only if, sampling.balance is weights",
            lambda s: bool(s.class_weights) == (s.balance == "weights"),
            "(size(self.classWeights) > 0) == (self.balance == 'weights')",
        ),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings(Document):
    """`spec.data.cache`: copies of what was read from S3, on a disk of the worker's."""

    size: str = setting(
        doc="Most bytes that they take, together for all workers that share the folder.",
        pattern=quantities.PATTERN,
        pattern_rule=quantities.RULE,
        max_length=32,
        is_int_or_string=True,
    )
    path: str | None = setting(
        default=None,
        doc="Folder, absolute, such as a volume that a node's workers share; absent: in the worker's own work folder.",
        pattern=r"/[^\x00]*",
        pattern_rule="an absolute path",
        max_length=1024,
    )

    @property
    def size_bytes(self) -> int:
        """The bound as a number."""
        return int(quantities.parse_quantity(self.size))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings(Document):
    """`spec.data`: a data set made by `imagetrain data pack`."""

    uri: str = setting(
        doc="Where dataset.json lies. One that ends in /latest is the version that latest.json beside it names.",
        syntax=uris.SYNTAX,
        max_bytes=512,
    )
    sampling: SamplingSettings = setting(default_factory=SamplingSettings, doc="How often each class appears.")
    cache: CacheSettings | None = setting(default=None, doc="Disk cache of a worker; absent: none.")
    read_ahead: str = setting(
        default="64Mi",
        doc="Bytes that a worker reads ahead of its training steps, beside the blocks that it reads from.",
        pattern=quantities.PATTERN,
        pattern_rule=quantities.RULE,
        max_length=32,
        is_int_or_string=True,
    )
    tune_reads: bool = setting(
        default=False, doc="Measure the storage for 3 s at the start and choose the size and number of requests by it."
    )

    @property
    def read_ahead_bytes(self) -> int:
        """The bound as a number."""
        return int(quantities.parse_quantity(self.read_ahead))
