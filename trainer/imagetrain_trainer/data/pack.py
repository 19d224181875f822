"""Packing: from images in folders or arrays to a data set, published by writing `dataset.json` last.

Two passes: the first decodes every image, refuses what is bad and gathers shapes and pixel sums; the second writes the
shards. The same source and options give the same bytes, on any machine and for any number of threads.
"""

import collections
import dataclasses
import math
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence

from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset, example, scan, shard_writer, source_kinds, sources, splits, tfrecord
from imagetrain_trainer.storage import store

_OWN_KEY = re.compile(rf"(?:{'|'.join(dataset.SPLITS)})/shard-\d+\.(?:tfrecord|index)")
_MIN_SHARD_BYTES = 1024


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PackOptions:
    """How to pack. Everything here but `threads` shapes the bytes that come out."""

    name: str | None = None
    """Name of the data set; the source's own by default."""
    ratios: tuple[float, float, float] = (3, 1, 1)
    """train : validation : test; the last two may be 0."""
    seed: int = 0
    """Of the split and of the order of records, 0 or more."""
    shard_size_bytes: int = 64 * 1024 * 1024
    """A shard ends before the record that would pass this size."""
    skip_bad: bool = False
    """Leave out images that are refused, and list them, instead of stopping at the first."""
    channels: int | None = None
    """1 or 3 where gray and color images are mixed; None requires that they agree."""
    threads: int | None = None
    """Images decoded at the same time; one per processor by default."""

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
        if self.threads is not None and self.threads < 1:
            raise errors.ConfigError(f"threads must be at least 1, got {self.threads!r}.")


@dataclasses.dataclass(frozen=True, slots=True)
class PackProgress:
    """How far packing is: `done` of `total` images, in stage "scan" (reading and checking) or "write"."""

    stage: str
    done: int
    total: int


@dataclasses.dataclass(frozen=True, slots=True)
class SkippedImage:
    """An image that was left out, and the rule that it breaks (a sentence that names it)."""

    key: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PackSummary:
    """What packing did.

    Attributes:
        uri: of the data set.
        dataset: what was written.
        size_bytes: of all shards and indexes.
        skipped: images left out by `skip_bad`.
        ignored: files of the source that are no images.
        conversions: how many images were stored otherwise than they came, by change, such as {"webp to png": 3}.
    """

    uri: str
    dataset: dataset.Dataset
    size_bytes: int
    skipped: tuple[SkippedImage, ...]
    ignored: tuple[str, ...]
    conversions: dict[str, int]


OnProgress = Callable[[PackProgress], None]


def pack(
    source: str | pathlib.Path,
    destination: str,
    options: PackOptions | None = None,
    on_progress: OnProgress | None = None,
    s3: store.S3Settings | None = None,
) -> PackSummary:
    """Pack a class-per-folder tree or an .npz file into a data set.

    A pack that was killed leaves no `dataset.json`; running it again overwrites its shards. Two packs must not write to
    one destination at the same time.

    Args:
        source: folder or .npz file.
        destination: a folder or s3:// URI, empty but for the shards of a pack that was killed.
        options: how.
        on_progress: called in this thread, after each image.
        s3: settings of an s3:// destination.

    Raises:
        errors.ConfigError: the source or an option breaks a rule; the message names the file or array, and the rule.
        errors.ObjectExistsError: the destination holds a data set.
        errors.StorageError: the destination cannot be written.
        errors.DiskFullError: no space is left there.
    """
    options = options or PackOptions()
    report = on_progress or (lambda _: None)
    path = pathlib.Path(source)
    _check_places(path, destination)
    objects = store.open_store(destination, s3)
    leftovers = _check_destination(objects)
    objects.probe_writable()
    origin = source_kinds.open_source(path, options.channels)
    scanned, refused = scan.scan(
        origin,
        threads=options.threads or os.cpu_count() or 1,
        is_stopping_at_bad=not options.skip_bad,
        on_done=lambda done: report(PackProgress("scan", done, len(origin.items))),
    )
    items = [item for item in origin.items if item.key in scanned]
    image = scan.summarize(scanned, options.channels)
    ratios = dict(zip(dataset.SPLITS, options.ratios, strict=True))
    parts = splits.assign_splits(items, origin.class_names, ratios, options.seed)
    written = _write(objects, origin, parts, scanned, options.shard_size_bytes, report)
    mean, std = scan.measure(image.channels, [scanned[item.key] for item in parts["train"]])
    given = {item.given_split for item in items}
    described, document = dataset.seal(
        dataset.Dataset(
            name=options.name or origin.name,
            class_names=origin.class_names,
            image=image,
            splits=written,
            mean=mean,
            std=std,
            split_seed=options.seed,
            split_ratios={name: ratio for name, ratio in ratios.items() if name not in given},
        )
    )
    _publish(objects, described, document, leftovers)
    return PackSummary(
        uri=objects.uri,
        dataset=described,
        size_bytes=sum(shard.size_bytes + shard.index_size_bytes for s in written.values() for shard in s.shards),
        skipped=tuple(SkippedImage(key, reason) for key, reason in refused.items()),
        ignored=origin.ignored,
        conversions=dict(
            sorted(collections.Counter(image.change for image in scanned.values() if image.change).items())
        ),
    )


def _check_places(source: pathlib.Path, destination: str) -> None:
    target = pathlib.Path(destination.removeprefix("file://")).resolve()
    if not destination.startswith("s3://") and source.resolve() in (target, *target.parents):
        raise errors.ConfigError(f"destination must lie outside the source {str(source)!r}, got {destination!r}.")


def _check_destination(objects: store.ObjectStore) -> set[str]:
    """Return the keys that a killed pack left; refuse anything else."""
    if objects.exists(dataset.KEY):
        raise errors.ObjectExistsError(
            f"destination {objects.uri} must not hold a data set, and {dataset.KEY} is there. A data set never "
            "changes: choose a new prefix for each version, such as .../v2/."
        )
    leftovers = set()
    for info in objects.list():
        if not _OWN_KEY.fullmatch(info.key):
            raise errors.ConfigError(f"destination {objects.uri} must be empty, got {info.key!r} in it.")
        leftovers.add(info.key)
    return leftovers


def _write(
    objects: store.ObjectStore,
    origin: sources.ItemSource,
    parts: Mapping[str, Sequence[sources.Item]],
    scanned: Mapping[str, scan.ScannedImage],
    shard_size_bytes: int,
    report: OnProgress,
) -> dict[str, dataset.Split]:
    total, done = sum(map(len, parts.values())), 0
    written = {}
    for split, items in parts.items():
        writer = shard_writer.ShardWriter(objects, split, shard_size_bytes)
        for item in items:
            writer.add(_build_record(origin, item, scanned[item.key]))
            done += 1
            report(PackProgress("write", done, total))
        counts = shard_writer.count_classes((item.label for item in items), len(origin.class_names))
        written[split] = dataset.Split(records=len(items), class_counts=counts, shards=writer.finish())
    return written


def _build_record(origin: sources.ItemSource, item: sources.Item, scanned: scan.ScannedImage) -> example.Record:
    payload = origin.read_payload(item, is_kept=not scanned.change)
    if tfrecord.crc32c(payload) != scanned.payload_crc:
        raise errors.ConfigError(f"source must not change while it is packed, and {item.key!r} did. Pack again.")
    return example.Record(
        payload=payload,
        label=item.label,
        format=scanned.format,
        height=scanned.height,
        width=scanned.width,
        channels=scanned.channels,
        key=item.key,
    )


def _publish(objects: store.ObjectStore, described: dataset.Dataset, document: bytes, leftovers: set[str]) -> None:
    """Remove shards of a killed pack that this one did not overwrite, then make the data set visible."""
    shards = [shard for split in described.splits.values() for shard in split.shards]
    objects.delete(sorted(leftovers - {key for shard in shards for key in (shard.key, shard.index_key)}))
    try:
        objects.put(dataset.KEY, document, only_if_absent=True, content_type="application/json")
    except errors.ObjectExistsError:
        # A retried request finds its own first try: the answer was lost, not the write.
        if objects.get(dataset.KEY) != document:
            raise
