"""Running statistics of packing, exact and mergeable: those of a shard are journaled with it. Pure."""

import collections
import dataclasses
import fractions
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset

_STATISTICS_DIGITS = 6
BUCKETS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
"""Upper bounds, inclusive, of the longest side in pixels; one more bucket holds what is larger."""


class RecordFacts(NamedTuple):
    """What packing keeps of one stored image.

    Attributes:
        position: in the order of the work list.
        key: its name in the source.
        label: index into the class names.
        frame_bytes: of the framed record.
        crc: masked CRC32C of the record's data.
        height: pixels; likewise the others, see `images.StoredImage`.
        digest: see `encoding.EncodedImage`.
    """

    position: int
    key: str
    label: int
    frame_bytes: int
    crc: int
    height: int
    width: int
    channels: int
    format: str
    change: str
    pixel_sums: tuple[int, ...]
    pixel_square_sums: tuple[int, ...]
    digest: bytes


class Tally:
    """Counts and exact sums of a number of images; `merge` gives the same as adding all to one."""

    def __init__(self) -> None:
        self.images = 0
        self.labels: collections.Counter[int] = collections.Counter()
        self.formats: collections.Counter[str] = collections.Counter()
        self.changes: collections.Counter[str] = collections.Counter()
        self.buckets: collections.Counter[int] = collections.Counter()
        self.sizes: list[int] = []  # lowest and highest height, lowest and highest width
        self.channels: dict[int, ChannelSums] = {}

    def add(self, facts: RecordFacts) -> None:
        """Count one image."""
        self.images += 1
        self.labels[facts.label] += 1
        self.formats[facts.format] += 1
        if facts.change:
            self.changes[facts.change] += 1
        longest = max(facts.height, facts.width)
        self.buckets[sum(longest > bound for bound in BUCKETS)] += 1
        self._widen([facts.height, facts.height, facts.width, facts.width])
        if facts.channels not in self.channels:
            self.channels[facts.channels] = ChannelSums.empty(facts.channels, facts.key)
        self.channels[facts.channels].add(1, facts.height * facts.width, facts.pixel_sums, facts.pixel_square_sums)

    def merge(self, other: "Tally") -> None:
        """Count all that another has counted."""
        self.images += other.images
        for mine, theirs in (
            (self.labels, other.labels),
            (self.formats, other.formats),
            (self.changes, other.changes),
            (self.buckets, other.buckets),
        ):
            mine.update(theirs)  # type: ignore[arg-type] # each pair has one key type
        if other.sizes:
            self._widen(other.sizes)
        for channels, sums in other.channels.items():
            if channels not in self.channels:
                self.channels[channels] = ChannelSums.empty(channels, sums.example)
            self.channels[channels].add(sums.images, sums.pixels, sums.sums, sums.square_sums)

    def _widen(self, sizes: list[int]) -> None:
        mine = self.sizes or sizes
        self.sizes = [pick(a, b) for pick, a, b in zip((min, max, min, max), mine, sizes, strict=True)]

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON's types; integers are exact at any size."""
        return {
            "images": self.images,
            "labels": sorted(self.labels.items()),
            "formats": sorted(self.formats.items()),
            "changes": sorted(self.changes.items()),
            "buckets": sorted(self.buckets.items()),
            "sizes": self.sizes,
            "channels": [[channels, dataclasses.asdict(sums)] for channels, sums in sorted(self.channels.items())],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Tally":
        """Return what `as_json` gave."""
        tally = cls()
        tally.images = document["images"]
        tally.sizes = document["sizes"]
        for name in ("labels", "formats", "changes", "buckets"):
            getattr(tally, name).update(dict(document[name]))
        tally.channels = {channels: ChannelSums(**sums) for channels, sums in document["channels"]}
        return tally


@dataclasses.dataclass(slots=True)
class ChannelSums:
    """Exact sums over the images of one number of channels.

    Attributes:
        example: key of the first such image.
        images: their number.
        pixels: of all together.
        sums: of each channel.
        square_sums: of each channel's squares.
    """

    example: str
    images: int
    pixels: int
    sums: list[int]
    square_sums: list[int]

    @classmethod
    def empty(cls, channels: int, example: str) -> "ChannelSums":
        """Return the sums of no image."""
        return cls(example, 0, 0, [0] * channels, [0] * channels)

    def add(self, images: int, pixels: int, sums: Iterable[int], square_sums: Iterable[int]) -> None:
        """Add images' sums."""
        self.images += images
        self.pixels += pixels
        self.sums = [a + b for a, b in zip(self.sums, sums, strict=True)]
        self.square_sums = [a + b for a, b in zip(self.square_sums, square_sums, strict=True)]


class Uniformity:
    """Stops a pack at the first image that cannot be in one data set with those before it."""

    def __init__(self, channels: int | None) -> None:
        """Start. `channels` is that of the set when gray and color may mix; None requires that they agree."""
        self._channels = channels
        self._first: dict[int, str] = {}
        self._raw: tuple[str, int, int, int] | None = None

    def check(self, facts: RecordFacts) -> None:
        """Compare an image with the first one.

        Raises:
            errors.ConfigError: it is gray among color or the reverse, or raw and of another size than the first.
        """
        if facts.channels not in self._first:
            self.check_channels(facts.channels, facts.key)
        if facts.format == "raw":
            shape = (facts.height, facts.width, facts.channels)
            if self._raw is None:
                self._raw = (facts.key, *shape)
            elif self._raw[1:] != shape:
                raise errors.ConfigError(
                    f"all images stored raw must have one size, and {self._raw[0]!r} is {_show(self._raw[1:])} and "
                    f"{facts.key!r} is {_show(shape)}. Pack with --encoding raw --size HEIGHTxWIDTH, or with "
                    "--encoding png."
                )

    def check_channels(self, channels: int, key: str) -> None:
        """Note the first image of a number of channels; raises as `check` does."""
        self._first.setdefault(channels, key)
        if len(self._first) > 1 and self._channels is None:
            raise errors.ConfigError(
                f"all images must have the same channels, and {self._first[1]!r} is gray and {self._first[3]!r} is "
                "color. Pack with --channels 3 or --channels 1."
            )

    def resume(self, tally: Tally) -> None:
        """Take the images of a shard that an earlier run finished."""
        for channels, sums in tally.channels.items():
            self.check_channels(channels, sums.example)
            if "raw" in tally.formats and self._raw is None:
                self._raw = (sums.example, tally.sizes[0], tally.sizes[2], channels)


def _show(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape))


def summarize(tally: Tally, channels: int | None) -> dataset.ImageFacts:
    """Return what all images have in common.

    Args:
        tally: of all splits.
        channels: of the set when gray and color may mix; None when they agree.

    Raises:
        errors.ConfigError: no image is left.
    """
    if not tally.images:
        raise errors.ConfigError("source must hold at least one image that can be used.")
    min_height, max_height, min_width, max_width = tally.sizes
    return dataset.ImageFacts(
        encoding=next(iter(tally.formats)) if len(tally.formats) == 1 else "mixed",
        channels=channels or next(iter(tally.channels)),
        height=min_height if min_height == max_height else None,
        width=min_width if min_width == max_width else None,
        min_height=min_height,
        max_height=max_height,
        min_width=min_width,
        max_width=max_width,
    )


def measure(channels: int, tally: Tally) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return each channel's mean and standard deviation over all pixels, from exact sums, rounded to six digits."""
    pixels = sum(sums.pixels for sums in tally.channels.values())
    means, stds = [], []
    for channel in range(channels):
        # A gray image in a color set counts in each channel, as decoders repeat it.
        total = sum(sums.sums[channel % count] for count, sums in tally.channels.items())
        squares = sum(sums.square_sums[channel % count] for count, sums in tally.channels.items())
        mean = fractions.Fraction(total, pixels)
        means.append(round(float(mean), _STATISTICS_DIGITS))
        stds.append(round(math.sqrt(fractions.Fraction(squares, pixels) - mean**2), _STATISTICS_DIGITS))
    return tuple(means), tuple(stds)


def list_buckets(tally: Tally) -> tuple[tuple[int | None, int], ...]:
    """Return (upper bound of the longest side, images) of each bucket that holds any; the last bound may be None."""
    bounds = (*BUCKETS, None)
    return tuple((bounds[bucket], count) for bucket, count in sorted(tally.buckets.items()))
