"""The first pass of packing: decode every image, refuse what is bad, keep shapes and exact pixel sums."""

import collections
import concurrent.futures
import fractions
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset, sources, tfrecord

_STATISTICS_DIGITS = 6
_CHUNK = 16  # images handed to a thread at a time: small arrays cost less than the handing over


class ScannedImage(NamedTuple):
    """What the first pass keeps of an image; see `images.StoredImage`."""

    height: int
    width: int
    channels: int
    format: str
    change: str
    payload_crc: int
    pixel_sums: tuple[int, ...]
    pixel_square_sums: tuple[int, ...]


_Result = ScannedImage | errors.ConfigError


def scan(
    origin: sources.ItemSource, *, threads: int, is_stopping_at_bad: bool, on_done: Callable[[int], None]
) -> tuple[dict[str, ScannedImage], dict[str, str]]:
    """Decode every image of a source.

    Args:
        origin: of the images.
        threads: images decoded at the same time.
        is_stopping_at_bad: raise at the first refused image, in the source's order, instead of going on.
        on_done: called in this thread with the number of images done.

    Returns:
        What was taken, by key, and the reason of what was refused, by key.

    Raises:
        errors.ConfigError: an image is refused; the message names it and the rule.
    """
    taken: dict[str, ScannedImage] = {}
    refused: dict[str, str] = {}
    with warnings.catch_warnings():
        # Pillow warns of oddities, such as a broken EXIF block, that do not touch the pixels.
        warnings.simplefilter("ignore", UserWarning)
        for done, (item, result) in enumerate(_scan_ahead(origin, threads), start=1):
            if isinstance(result, ScannedImage):
                taken[item.key] = result
            elif is_stopping_at_bad:
                raise errors.ConfigError(f"{result} Correct or remove it, or pack with --skip-bad.") from result
            else:
                refused[item.key] = str(result)
            on_done(done)
    return taken, refused


def _scan_ahead(origin: sources.ItemSource, threads: int) -> Iterator[tuple[sources.Item, _Result]]:
    """Yield each item's result in order, with a bounded number of images under way."""
    pending: collections.deque[concurrent.futures.Future[list[tuple[sources.Item, _Result]]]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(threads, "imagetrain-scan") as pool:
        try:
            for start in range(0, len(origin.items), _CHUNK):
                chunk = origin.items[start : start + _CHUNK]
                pending.append(pool.submit(lambda items: [(item, _scan_one(origin, item)) for item in items], chunk))
                if len(pending) > 2 * threads:
                    yield from pending.popleft().result()
            for future in pending:
                yield from future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _scan_one(origin: sources.ItemSource, item: sources.Item) -> _Result:
    try:
        image = origin.read(item)
    except errors.ConfigError as e:
        return e
    return ScannedImage(
        height=image.height,
        width=image.width,
        channels=image.channels,
        format=image.format,
        change=image.change,
        payload_crc=tfrecord.crc32c(image.payload),
        pixel_sums=image.pixel_sums,
        pixel_square_sums=image.pixel_square_sums,
    )


def summarize(scanned: Mapping[str, ScannedImage], channels: int | None) -> dataset.ImageFacts:
    """Return what all images have in common.

    Args:
        scanned: by key.
        channels: of the set when gray and color may mix; None requires that they agree.

    Raises:
        errors.ConfigError: no image is left, or gray and color are mixed; the message names one of each.
    """
    if not scanned:
        raise errors.ConfigError("source must hold at least one image that can be used.")
    by_channels: dict[int, list[str]] = collections.defaultdict(list)
    for key, image in scanned.items():
        by_channels[image.channels].append(key)
    if len(by_channels) > 1 and channels is None:
        gray, color = by_channels[1], by_channels[3]
        raise errors.ConfigError(
            f"all images must have the same channels, and {len(gray)} are gray (such as {gray[0]!r}) and {len(color)} "
            f"are color (such as {color[0]!r}). Pack with --channels 3 or --channels 1."
        )
    heights, widths = ({getattr(image, side) for image in scanned.values()} for side in ("height", "width"))
    formats = {image.format for image in scanned.values()}
    return dataset.ImageFacts(
        encoding=formats.pop() if len(formats) == 1 else "mixed",
        channels=channels or next(iter(by_channels)),
        height=min(heights) if len(heights) == 1 else None,
        width=min(widths) if len(widths) == 1 else None,
        min_height=min(heights),
        max_height=max(heights),
        min_width=min(widths),
        max_width=max(widths),
    )


def measure(channels: int, scanned: Sequence[ScannedImage]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return each channel's mean and standard deviation over all pixels, from exact sums, rounded to six digits."""
    pixels = sum(image.height * image.width for image in scanned)
    means, stds = [], []
    for channel in range(channels):
        # A gray image in a color set counts in each channel, as decoders repeat it.
        total = sum(image.pixel_sums[channel % image.channels] for image in scanned)
        squares = sum(image.pixel_square_sums[channel % image.channels] for image in scanned)
        mean = fractions.Fraction(total, pixels)
        means.append(round(float(mean), _STATISTICS_DIGITS))
        stds.append(round(math.sqrt(fractions.Fraction(squares, pixels) - mean**2), _STATISTICS_DIGITS))
    return tuple(means), tuple(stds)
