"""The options of packing."""

import dataclasses
import hashlib
import json
import math
import pathlib
from typing import Any

from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset, images
from imagetrain_trainer.data import encoding as encoding_module

_MIN_SHARD_BYTES = 1024
_WORK_VERSION = 1  # of what is in a work folder; another version's work is done again


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PackOptions:
    """How to pack. All but the last five shape the bytes that come out."""

    name: str | None = None
    """Name of the data set; the source's own by default."""
    ratios: tuple[float, float, float] = (3, 1, 1)
    """train : validation : test; the last two may be 0."""
    seed: int = 0
    """Of the split and of the order of records, 0 or more."""
    shard_size_bytes: int = 64 * 1024 * 1024
    """A shard ends before the record that would pass this size."""
    channels: int | None = None
    """1 or 3 where gray and color images are mixed; None requires that they agree."""
    encoding: encoding_module.EncodingOptions = dataclasses.field(default_factory=encoding_module.EncodingOptions)
    """How images are stored."""
    policy: images.ImagePolicy = images.DEFAULT_POLICY
    """What to do with images that cannot be stored without a choice."""
    skip_bad: bool = False
    """Leave out images that are refused, and list them, instead of stopping at the first."""
    allow_leakage: bool = False
    """Publish although equal images are in two splits."""
    processes: int | None = None
    """Processes that read and encode; by default one per processor, and fewer for few images."""
    work_dir: pathlib.Path | None = None
    """Folder of the work list and the journal; one of the destination's own in the user's cache by default."""
    restart: bool = False
    """Forget what an earlier pack to this destination has finished."""

    def __post_init__(self) -> None:
        is_usable = len(self.ratios) == len(dataset.SPLITS) and all(map(math.isfinite, self.ratios))
        if not (is_usable and self.ratios[0] > 0 and min(self.ratios) >= 0):
            raise errors.ConfigError(
                f"ratios must be three finite numbers, the first above 0, the others 0 or more, got {self.ratios!r}."
            )
        if self.seed < 0:
            raise errors.ConfigError(f"seed must be 0 or more, got {self.seed!r}.")
        if self.shard_size_bytes < _MIN_SHARD_BYTES:
            raise errors.ConfigError(f"shard size must be at least 1024 bytes, got {self.shard_size_bytes!r}.")
        if self.channels not in (None, 1, 3):
            raise errors.ConfigError(f"channels must be 1 or 3, got {self.channels!r}.")
        if self.processes is not None and self.processes < 1:
            raise errors.ConfigError(f"processes must be at least 1, got {self.processes!r}.")

    @property
    def split_ratios(self) -> dict[str, float]:
        """The ratios by split."""
        return dict(zip(dataset.SPLITS, self.ratios, strict=True))

    def as_json(self) -> dict[str, Any]:
        """Return what `dataset.json` says of the options that shaped the images."""
        document = self.encoding.as_json()
        if self.channels is not None:
            document["channels"] = self.channels
        for field in dataclasses.fields(self.policy):
            value = getattr(self.policy, field.name)
            if value != field.default:
                first, *rest = field.name.split("_")
                document[first + "".join(word.capitalize() for word in rest)] = value
        return document

    def fingerprint(self, listing_digest: str) -> str:
        """Return what must be equal for a pack to go on with another's shards."""
        facts = {
            "version": _WORK_VERSION,
            "listing": listing_digest,
            "ratios": [float(ratio) for ratio in self.ratios],
            "seed": self.seed,
            "shard_size_bytes": self.shard_size_bytes,
            "images": self.as_json(),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
