"""Whether a stored data set is whole: every byte against its checksums, every record against its index, some decoded.

Nothing stops at the first defect. Shards are read several at a time, each from front to back, so memory is bounded by
two range GETs and one index a shard under way, whatever the size of the set.
"""

import concurrent.futures
import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset as dataset_module
from imagetrain_trainer.data import defects as defects_module
from imagetrain_trainer.data import verify_shard, versions
from imagetrain_trainer.data.dataset import Dataset
from imagetrain_trainer.storage import store

_SAMPLE_SEED = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """How much to decode and how many shards to read at a time."""

    sample: int | None = 256
    """Images to decode, evenly drawn over all splits, the same ones each time; None decodes every image."""
    concurrent_shards: int = 4
    """Shards that are read at the same time."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What a verification found.

    Attributes:
        uri: of the data set; of the version itself when it was asked for by `latest`.
        digest: of its `dataset.json`; empty when that cannot be read.
        defects: everything that is wrong.
        unlisted: the first objects that `dataset.json` does not list and that no reader of the data set would read.
        unlisted_count: how many those are in all.
        objects: objects read.
        records: records checked.
        images: images decoded.
        size_bytes: bytes of shards read.
    """

    uri: str
    digest: str
    defects: defects_module.Defects
    unlisted: tuple[str, ...] = ()
    unlisted_count: int = 0
    objects: int = 1
    records: int = 0
    images: int = 0
    size_bytes: int = 0

    @property
    def is_whole(self) -> bool:
        """Tell whether there is no defect."""
        return self.defects.total == 0

    def as_json(self) -> dict[str, Any]:
        """Return a document for `json.dumps`, with camelCase keys."""
        return {
            "uri": self.uri,
            "digest": self.digest,
            "isWhole": self.is_whole,
            "objects": self.objects,
            "records": self.records,
            "sizeBytes": self.size_bytes,
            "imagesDecoded": self.images,
            "defectCount": self.defects.total,
            "defects": self.defects.as_json(),
            "unlisted": list(self.unlisted),
            "unlistedCount": self.unlisted_count,
        }


def verify(
    uri: str,
    options: VerifyOptions | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    s3: store.S3Settings | None = None,
) -> VerifyReport:
    """Check the data set at a folder, an s3:// URI or a `latest` URI.

    Args:
        uri: where.
        options: see `VerifyOptions`.
        on_progress: called from several threads in turn with the bytes of shards read and to read.
        s3: settings that override the AWS environment.

    Raises:
        errors.ObjectNotFoundError: no data set is there.
        errors.StorageError: the store failed, so that nothing can be said of the data set.
    """
    options = options or VerifyOptions()
    place = versions.locate(uri, s3)
    objects, found = place.objects, defects_module.Defects()
    dataset = _load_description(objects, found)
    if place.digest is not None and dataset is not None and place.digest != dataset.digest:
        rule = f"must have the digest {place.digest} that {versions.LATEST_KEY} names, got {dataset.digest}"
        found.add(defects_module.Defect(kind="description", key=dataset_module.KEY, rule=rule))
    if dataset is None:
        return VerifyReport(uri=objects.uri, digest="", defects=found)
    shards = _verify_shards(objects, dataset, options, on_progress)
    found.merge(part.defects for parts in shards.values() for part in parts)
    _check_counts(dataset, shards, found)
    unlisted, unlisted_count = _check_unlisted(objects, dataset, found)
    every = [part for parts in shards.values() for part in parts]
    return VerifyReport(
        uri=objects.uri,
        digest=dataset.digest,
        defects=found,
        unlisted=unlisted,
        unlisted_count=unlisted_count,
        objects=1 + sum(part.objects for part in every),
        records=sum(part.records for part in every),
        images=sum(part.images for part in every),
        size_bytes=sum(part.size_bytes for part in every),
    )


def _load_description(objects: store.ObjectStore, found: defects_module.Defects) -> Dataset | None:
    """Read `dataset.json`; where it is damaged but still says what should be there, go on with that."""

    def add(rule: str) -> None:
        found.add(defects_module.Defect(kind="description", key=dataset_module.KEY, rule=rule))

    try:
        loaded = dataset_module.load_dataset(objects)
        data = objects.get(dataset_module.KEY)
        document = json.loads(data)
    except errors.DataCorruptError:
        return _reseal(objects, add)
    # The digest is over the document, not over its bytes: white space and the spelling of numbers are not in it.
    if data != (json.dumps(document, indent=1, ensure_ascii=True) + "\n").encode():
        add("must be written byte for byte as packing writes it: it was changed, though it still means the same")
    _check_keys(loaded, add)
    return loaded


def _reseal(objects: store.ObjectStore, add: Callable[[str], None]) -> Dataset | None:
    data = objects.get(dataset_module.KEY)
    try:
        dataset_module.parse(data)
    except errors.DataCorruptError as e:
        add(str(e))
    try:
        document = json.loads(data)
        document.pop("digest", None)
        document["digest"] = dataset_module.compute_digest(document)
        return dataset_module.parse(json.dumps(document).encode())
    except (errors.DataCorruptError, ValueError, AttributeError, TypeError, RecursionError):
        return None


def _check_keys(dataset: Dataset, add: Callable[[str], None]) -> None:
    seen: set[str] = set()
    for split in dataset.splits.values():
        for shard in split.shards:
            for key in (shard.key, shard.index_key):
                if key in seen:
                    add(f"must list each object once, got {key} again")
                seen.add(key)


def _verify_shards(
    objects: store.ObjectStore, dataset: Dataset, options: VerifyOptions, on_progress: Callable[[int, int], None]
) -> dict[str, list[verify_shard.ShardFindings]]:
    """Check all shards, several at a time; return the findings of each split's shards in order."""
    total = sum(split.size_bytes for split in dataset.splits.values())
    lock, done = threading.Lock(), 0

    def count(more: int) -> None:
        nonlocal done
        with lock:
            done += more
            on_progress(done, total)

    def run(shard: dataset_module.Shard, sample: frozenset[int] | None) -> verify_shard.ShardFindings:
        return verify_shard.ShardVerifier(objects, dataset, shard, sample, count).verify()

    turns = list(_sampled_shards(dataset, options.sample))
    with concurrent.futures.ThreadPoolExecutor(options.concurrent_shards, "imagetrain-verify") as pool:
        futures = [pool.submit(run, shard, sample) for _, shard, sample in turns]
        try:
            results = [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    findings: dict[str, list[verify_shard.ShardFindings]] = {name: [] for name in dataset.splits}
    for (split, _, _), result in zip(turns, results, strict=True):
        findings[split].append(result)
    return findings


def _sampled_shards(
    dataset: Dataset, sample: int | None
) -> Iterator[tuple[str, dataset_module.Shard, frozenset[int] | None]]:
    """Yield each shard's split, the shard, and the numbers of its records to decode (None: all)."""
    total = dataset.records
    is_all = sample is None or sample >= total
    chosen = np.zeros(0, np.int64)
    if not is_all:
        chosen = np.sort(np.random.default_rng(_SAMPLE_SEED).choice(total, sample, replace=False))
    first = 0
    for name, split in dataset.splits.items():
        for shard in split.shards:
            own = chosen[np.searchsorted(chosen, first) : np.searchsorted(chosen, first + shard.records)] - first
            yield name, shard, None if is_all else frozenset(own.tolist())
            first += shard.records


def _check_counts(
    dataset: Dataset, shards: dict[str, list[verify_shard.ShardFindings]], found: defects_module.Defects
) -> None:
    for name, split in dataset.splits.items():
        if any(part.uncounted for part in shards[name]):
            continue  # what is missing there is told already
        counts = sum((part.class_counts for part in shards[name]), np.zeros(len(dataset.class_names), np.int64))
        for class_name, listed, counted in zip(dataset.class_names, split.class_counts, counts.tolist(), strict=True):
            if listed != counted:
                rule = (
                    f"must count the {name} records of class {class_name!r}: lists {listed}, the shards hold {counted}"
                )
                found.add(defects_module.Defect(kind="counts", key=dataset_module.KEY, rule=rule))


def _check_unlisted(
    objects: store.ObjectStore, dataset: Dataset, found: defects_module.Defects
) -> tuple[tuple[str, ...], int]:
    """Find objects that are not listed: in a split's folder a pattern such as train/*.tfrecord would read them.

    Returns:
        The first of those that lie elsewhere, and how many they are; there may be whole other versions below.
    """
    listed = {dataset_module.KEY}
    for split in dataset.splits.values():
        for shard in split.shards:
            listed |= {shard.key, shard.index_key}
    others: list[str] = []
    count = 0
    for info in objects.list():
        if info.key in listed:
            continue
        if info.key.split("/")[0] in dataset_module.SPLITS and "/" in info.key:
            rule = "must not lie in a split's folder, for dataset.json does not list it"
            found.add(defects_module.Defect(kind="extra", key=info.key, rule=rule))
        else:
            count += 1
            if len(others) < defects_module.MOST_NAMED:
                others.append(info.key)
    return tuple(others), count
