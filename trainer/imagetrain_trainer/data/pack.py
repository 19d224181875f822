"""Packing: from images in folders, arrays or archives to a data set, published by writing `dataset.json` last.

One pass: the source is listed into a file, divided and ordered there (`pack_list`), then the images are read, checked
and encoded in that order by several processes (`pack_workers`), and put into shards (`pack_shards`). Each finished
shard is journaled, so that a pack that was killed goes on behind it. The same source and options give the same bytes,
on any machine, for any number of processes and however often it was killed.
"""

import contextlib
import dataclasses
import os
import pathlib
import re

from imagetrain_trainer import errors
from imagetrain_trainer.data import (
    dataset,
    pack_duplicates,
    pack_folder,
    pack_journal,
    pack_list,
    pack_run,
    pack_shards,
    pack_tally,
    pack_worker,
    source_kinds,
    sources,
    versions,
)
from imagetrain_trainer.data.pack_options import PackOptions
from imagetrain_trainer.data.pack_run import OnProgress, PackProgress
from imagetrain_trainer.storage import store

__all__ = ["OnProgress", "PackOptions", "PackProgress", "PackSummary", "SkippedImage", "pack"]

_OWN_KEY = re.compile(rf"(?:{'|'.join(dataset.SPLITS)})/shard-\d+\.(?:tfrecord|index)")
_MAX_SKIPPED = 1000


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
        skipped: images left out by `skip_bad`, the first 1000 in the order of the shards.
        skipped_count: of all of them.
        ignored: files of the source that are no images, the first 1000.
        ignored_count: of all of them.
        conversions: how many images were stored otherwise than they came, by change, such as {"webp to png": 3}.
        duplicates: equal images.
        resumed: images taken over from a pack that was killed.
    """

    uri: str
    dataset: dataset.Dataset
    size_bytes: int
    skipped: tuple[SkippedImage, ...]
    skipped_count: int
    ignored: tuple[str, ...]
    ignored_count: int
    conversions: dict[str, int]
    duplicates: pack_duplicates.DuplicateReport
    resumed: int


def pack(
    source: str | pathlib.Path | sources.Source,
    destination: str,
    options: PackOptions | None = None,
    on_progress: OnProgress | None = None,
    s3: store.S3Settings | None = None,
) -> PackSummary:
    """Pack a source into a data set.

    A pack that was killed leaves no `dataset.json`; running it again goes on behind its last finished shard. Two packs
    must not write to one destination at the same time.

    Args:
        source: what `source_kinds.open_source` opens, or an open source.
        destination: a folder or s3:// URI, empty but for the shards of a pack that was killed.
        options: how.
        on_progress: called in this thread, now and then.
        s3: settings of s3:// places.

    Raises:
        errors.ConfigError: the source or an option breaks a rule; the message names the image and the rule.
        errors.ObjectExistsError: the destination holds a data set.
        errors.StorageError: the destination cannot be written.
        errors.DiskFullError: no space is left there, or for the work list.
    """
    options = options or PackOptions()
    report = on_progress or (lambda _: None)
    _check_name(destination)
    if not isinstance(source, sources.Source):
        check_places(source, destination)
    objects = store.open_store(destination, s3)
    found = _check_destination(objects)
    objects.probe_writable()
    origin = source if isinstance(source, sources.Source) else source_kinds.open_source(source, s3=s3)
    with contextlib.ExitStack() as stack:
        path = options.work_dir or pack_folder.default_path(pack_folder.default_root(os.environ), objects.uri)
        folder = stack.enter_context(pack_folder.open_folder(path))
        worklist = stack.enter_context(contextlib.closing(_prepare_list(folder, origin, options, report)))
        journal = stack.enter_context(contextlib.closing(pack_journal.Journal(folder.journal)))
        journal.begin(options.fingerprint(worklist.facts.digest))
        work = pack_worker.Work(origin, options.encoding, options.channels, options.policy)
        packed, resumed = pack_run.run(work, worklist, journal, objects, found, options, report)
        _check_classes(worklist.facts, packed)
        duplicates = _compare(worklist, journal, options)
        described, document = dataset.seal(_describe(origin, worklist.facts, packed, duplicates, options))
        _publish(objects, described, document, set(found))
        summary = _summarize(objects, origin, described, packed, journal, worklist, duplicates, resumed)
        pack_folder.remove(folder)
    return summary


def check_places(source: str | pathlib.Path, destination: str) -> None:
    """Check that a destination can be told from the source and from other data sets.

    Raises:
        errors.ConfigError: it lies inside the source, which would then change meanwhile; or it is called `latest`, so
            that its URI would mean another version.
    """
    _check_name(destination)
    text = str(source)
    if text.startswith("s3://") and destination.startswith("s3://"):
        is_inside = f"{destination.rstrip('/')}/".startswith(f"{text.rstrip('/')}/")
    elif "s3://" in (text[:5], destination[:5]):
        is_inside = False
    else:
        target = pathlib.Path(destination.removeprefix("file://")).resolve()
        is_inside = pathlib.Path(text.removeprefix("file://")).resolve() in (target, *target.parents)
    if is_inside:
        raise errors.ConfigError(f"destination must lie outside the source {text!r}, got {destination!r}.")


def _check_name(destination: str) -> None:
    if destination.rstrip("/").rpartition("/")[2] == versions.LATEST:
        raise errors.ConfigError(
            f"destination must not be called {versions.LATEST}, which stands for the version that "
            f"{versions.LATEST_KEY} beside it names, got {destination!r}. Name the version, such as .../v2/; "
            "--latest then makes it the latest."
        )


def _check_destination(objects: store.ObjectStore) -> dict[str, store.ObjectInfo]:
    """Return the objects that a killed pack left, by key; refuse anything else."""
    if objects.exists(dataset.KEY):
        raise errors.ObjectExistsError(
            f"destination {objects.uri} must not hold a data set, and {dataset.KEY} is there. A data set never "
            "changes: choose a new prefix for each version, such as .../v2/."
        )
    found = {}
    for info in objects.list():
        if not _OWN_KEY.fullmatch(info.key):
            raise errors.ConfigError(f"destination {objects.uri} must be empty, got {info.key!r} in it.")
        found[info.key] = info
    return found


def _prepare_list(
    folder: pack_folder.WorkFolder, origin: sources.Source, options: PackOptions, report: OnProgress
) -> pack_list.WorkList:
    """Return the list that an earlier run made, if the source still gives it, or else a new one."""

    def on_listed(count: int) -> None:
        report(PackProgress("list", count, None))

    if options.restart:
        folder.clear()
    if folder.list.exists():
        worklist = pack_list.WorkList(folder.list)
        digest = pack_list.digest_source(origin, on_listed)
        if worklist.facts.fits(digest, options.split_ratios, options.seed):
            return worklist
        worklist.close()
    pack_list.write_list(folder.list, origin, options.split_ratios, options.seed, on_listed)
    return pack_list.WorkList(folder.list)


def _check_classes(facts: pack_list.ListFacts, packed: pack_shards.Packed) -> None:
    """Check that refusals left every class in every split that packing filled, and something to train on."""
    if not sum(tally.images for tally in packed.tallies.values()):
        raise errors.ConfigError("source must hold at least one image that can be used.")
    for split in facts.filled:
        for label, name in enumerate(facts.class_names):
            if not packed.tallies[split].labels[label]:
                raise errors.ConfigError(
                    f"class {name!r} must have an image that can be used in every split, and has none in {split}. "
                    "Add or correct images, or set the split's ratio to 0."
                )
    if not packed.tallies["train"].images:
        raise errors.ConfigError("the train split must hold at least one image, and the source gives it none.")


class _Places:
    """The places in a work list, for `pack_duplicates`."""

    def __init__(self, worklist: pack_list.WorkList) -> None:
        self._worklist = worklist

    def split_of(self, position: int) -> str:
        return self._worklist.split_of(position)

    def place_of(self, position: int) -> pack_duplicates.Place:
        row = self._worklist.row(position)
        class_name = self._worklist.facts.class_names[row.label]
        return pack_duplicates.Place(row.key, self.split_of(position), class_name)


def _compare(
    worklist: pack_list.WorkList, journal: pack_journal.Journal, options: PackOptions
) -> pack_duplicates.DuplicateReport:
    report = pack_duplicates.find_duplicates(journal.hashes(), _Places(worklist))
    if report.across_splits and not options.allow_leakage:
        raise errors.ConfigError(
            f"no image may be in two splits, which would make a test too easy, and {report.across_splits} are, such as "
            f"{report.split_pairs[0]}. Remove one of each, give both one group, or pack with --allow-leakage."
        )
    return report


def _describe(
    origin: sources.Source,
    facts: pack_list.ListFacts,
    packed: pack_shards.Packed,
    duplicates: pack_duplicates.DuplicateReport,
    options: PackOptions,
) -> dataset.Dataset:
    whole = pack_tally.Tally()
    for tally in packed.tallies.values():
        whole.merge(tally)
    image = pack_tally.summarize(whole, options.channels)
    mean, std = pack_tally.measure(image.channels, packed.tallies["train"])
    return dataset.Dataset(
        name=options.name or origin.name,
        class_names=facts.class_names,
        image=image,
        splits={
            name: dataset.Split(
                records=tally.images,
                class_counts=tuple(tally.labels[label] for label in range(len(facts.class_names))),
                shards=tuple(packed.shards[name]),
            )
            for name, tally in packed.tallies.items()
        },
        mean=mean,
        std=std,
        split_seed=options.seed,
        split_ratios={name: ratio for name, ratio in options.split_ratios.items() if name not in facts.given},
        size_histogram=pack_tally.list_buckets(whole),
        duplicates=dataset.DuplicateCounts(
            images=duplicates.images,
            across_splits=duplicates.across_splits,
            across_classes=duplicates.across_classes,
        ),
        packing=options.as_json(),
    )


def _publish(objects: store.ObjectStore, described: dataset.Dataset, document: bytes, leftovers: set[str]) -> None:
    """Remove shards of a killed pack that this one did not overwrite, then make the data set visible."""
    shards = [shard for split in described.splits.values() for shard in split.shards]
    objects.delete(sorted(leftovers - {key for shard in shards for key in (shard.key, shard.index_key)}))
    objects.remove_partial_writes()
    try:
        objects.put(dataset.KEY, document, only_if_absent=True, content_type="application/json")
    except errors.ObjectExistsError:
        # A retried request finds its own first try: the answer was lost, not the write.
        if objects.get(dataset.KEY) != document:
            raise


def _summarize(
    objects: store.ObjectStore,
    origin: sources.Source,
    described: dataset.Dataset,
    packed: pack_shards.Packed,
    journal: pack_journal.Journal,
    worklist: pack_list.WorkList,
    duplicates: pack_duplicates.DuplicateReport,
    resumed: int,
) -> PackSummary:
    changes = pack_tally.Tally()
    for tally in packed.tallies.values():
        changes.merge(tally)
    shards = [shard for split in described.splits.values() for shard in split.shards]
    return PackSummary(
        uri=objects.uri,
        dataset=described,
        size_bytes=sum(shard.size_bytes + shard.index_size_bytes for shard in shards),
        skipped=tuple(
            SkippedImage(worklist.row(position).key, reason) for position, reason in journal.refusals(_MAX_SKIPPED)
        ),
        skipped_count=journal.count_refusals(),
        ignored=origin.ignored,
        ignored_count=origin.ignored_count,
        conversions=dict(sorted(changes.changes.items())),
        duplicates=duplicates,
        resumed=resumed,
    )
