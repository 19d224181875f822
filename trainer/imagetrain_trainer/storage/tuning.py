"""A short measurement at the start of a run: into how large parts a range is best cut on this store.

The bytes under way are bounded by `FetchOptions.max_bytes`, so smaller parts mean more connections. That pays where one
connection is slow, as on Amazon S3 (some 50 to 100 MB/s each), and costs where a request is dear. What is measured
never affects which bytes are read or in what order they are handed out.
"""

import collections
import concurrent.futures
import dataclasses
import logging
import math
import random
import time
from collections.abc import Sequence

from imagetrain_trainer import errors
from imagetrain_trainer.storage import concurrency, fetching, object_store

logger = logging.getLogger(__name__)

PART_BYTES = tuple(size * 1024 * 1024 for size in (8, 4, 2, 1))
"""What is tried besides the given size."""

_CLEARLY = 1.25  # times the given size's speed: less is noise
_RANGE_BYTES = 8 * 1024 * 1024  # a block of the reader's
_LOOK_SECONDS = 0.01


def tune(
    objects: object_store.ObjectStore,
    sizes: Sequence[tuple[str, int]],
    options: fetching.FetchOptions | None = None,
    *,
    seconds: float = 3.0,
    seed: int = 0,
) -> fetching.FetchOptions:
    """Measure a few part sizes on real ranges, and return the options with the fastest one.

    Args:
        objects: the store.
        sizes: key and bytes of objects that may be read.
        options: what to start from; its part size stays unless another is a quarter faster.
        seconds: how long all of it takes.
        seed: of the ranges.

    Returns:
        `options` with another `part_bytes` and a fitting first limit of requests. They are unchanged for a folder, and
        when the store failed meanwhile: the run itself will say why, if it lasts.
    """
    options = options or fetching.FetchOptions()
    places = [(key, size_bytes) for key, size_bytes in sizes if size_bytes > 0]
    tried = [build_trial(options, part_bytes) for part_bytes in dict.fromkeys((options.part_bytes, *PART_BYTES))]
    if not places or objects.uri.startswith("file:"):
        return options
    try:
        speeds = [_measure(objects, places, trial, seconds / len(tried), seed) for trial in tried]
    except errors.TrainerError as e:
        logger.warning("the store could not be measured: %s", e)
        return options
    best = pick(speeds)
    logger.info("parts of %d bytes are read at %.0f bytes/s", tried[best].part_bytes, speeds[best])
    return options if best == 0 else tried[best]


def pick(speeds: Sequence[float]) -> int:
    """Return the index of the fastest, or 0 while none is clearly faster than the first."""
    return max(range(len(speeds)), key=lambda number: speeds[number] * (_CLEARLY if number == 0 else 1))


def build_trial(options: fetching.FetchOptions, part_bytes: int) -> fetching.FetchOptions:
    """Return the options with this part size and as many requests at first as the bytes under way allow."""
    fitting = math.ceil(options.max_bytes / part_bytes)
    initial = min(options.limits.most, max(options.limits.least, options.limits.initial, fitting))
    limits = concurrency.ConcurrencyOptions(
        initial=initial, least=options.limits.least, most=options.limits.most, decrease=options.limits.decrease
    )
    return dataclasses.replace(options, part_bytes=part_bytes, limits=limits)


def _measure(
    objects: object_store.ObjectStore,
    places: Sequence[tuple[str, int]],
    trial: fetching.FetchOptions,
    seconds: float,
    seed: int,
) -> float:
    """Return bytes a second until the last answer in time, connections and all; 0 when there was none."""
    draw = random.Random(seed)  # noqa: S311 - the same ranges for each trial
    begin = time.monotonic()
    end = begin + seconds
    length = max(_RANGE_BYTES, trial.part_bytes)
    came, came_at = 0, begin
    pending: collections.deque[fetching.Future[memoryview]] = collections.deque()
    with fetching.Fetcher(objects, trial) as fetcher:
        while (now := time.monotonic()) < end:
            while len(pending) * length < 2 * trial.max_bytes:
                key, size_bytes = draw.choice(places)
                start = draw.randrange(max(1, size_bytes - length))
                pending.append(fetcher.get(key, start, min(length, size_bytes - start)))
            concurrent.futures.wait([pending[0]], timeout=min(_LOOK_SECONDS, end - now))
            while pending and pending[0].done():
                pending.popleft().result()
            if fetcher.counters.bytes > came:
                came, came_at = fetcher.counters.bytes, time.monotonic()
    return came / (came_at - begin) if came else 0.0
