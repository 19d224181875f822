"""What a packed data set holds, and which versions lie below a prefix, as plain data for printing."""

import dataclasses
from typing import Any

from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset, versions
from imagetrain_trainer.storage import store


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SplitInfo:
    """One split: its records, shards, bytes (without indexes) and records of each class."""

    name: str
    records: int
    shards: int
    size_bytes: int
    class_counts: dict[str, int]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """A data set's description; what is not explained here is as in `dataset.Dataset`.

    Attributes:
        version: the folder that `latest` stood for; None for a URI that names the data set itself.
    """

    uri: str
    name: str
    digest: str
    class_names: tuple[str, ...]
    image: dataset.ImageFacts
    mean: tuple[float, ...]
    std: tuple[float, ...]
    split_seed: int
    split_ratios: dict[str, float]
    splits: tuple[SplitInfo, ...]
    size_histogram: tuple[tuple[int | None, int], ...]
    duplicates: dataset.DuplicateCounts | None
    packing: dict[str, Any]
    version: str | None = None

    @property
    def records(self) -> int:
        """Records of all splits."""
        return sum(split.records for split in self.splits)

    @property
    def size_bytes(self) -> int:
        """Bytes of all shards, without indexes."""
        return sum(split.size_bytes for split in self.splits)

    def histogram(self) -> list[tuple[str, dict[str, int]]]:
        """Return, for each class in label order, its name and its records in each split."""
        return [(name, {split.name: split.class_counts[name] for split in self.splits}) for name in self.class_names]

    def as_json(self) -> dict[str, Any]:
        """Return a document for `json.dumps`, with camelCase keys."""
        document: dict[str, Any] = {
            "uri": self.uri,
            "name": self.name,
            "digest": self.digest,
            "records": self.records,
            "sizeBytes": self.size_bytes,
            "classes": list(self.class_names),
            "image": dataset.render_image(self.image),
            "mean": list(self.mean),
            "std": list(self.std),
            "splitSeed": self.split_seed,
            "splitRatios": self.split_ratios,
            "splits": {
                split.name: {
                    "records": split.records,
                    "shards": split.shards,
                    "sizeBytes": split.size_bytes,
                    "classCounts": split.class_counts,
                }
                for split in self.splits
            },
        }
        if self.version is not None:
            document["version"] = self.version
        if self.size_histogram:
            document["sizeHistogram"] = [{"upTo": bound, "images": count} for bound, count in self.size_histogram]
        if self.duplicates is not None:
            document["duplicates"] = {
                "images": self.duplicates.images,
                "acrossSplits": self.duplicates.across_splits,
                "acrossClasses": self.duplicates.across_classes,
            }
        if self.packing:
            document["packing"] = self.packing
        return document


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VersionsInfo:
    """The versions below a prefix, in the order of their names.

    Attributes:
        uri: of the prefix.
        entries: each version with its description, or with what is wrong with it.
        latest: what `latest.json` names, or None.
        problem: what is wrong with `latest.json`; empty when nothing is.
    """

    uri: str
    entries: tuple[versions.Version, ...]
    latest: versions.Pointer | None
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return a document for `json.dumps`, with camelCase keys."""
        return {
            "uri": self.uri,
            "latest": self.latest.version if self.latest else None,
            "versions": [
                {"version": each.name, "uri": each.uri, "problem": each.problem}
                if each.dataset is None
                else {
                    "version": each.name,
                    "uri": each.uri,
                    "digest": each.dataset.digest,
                    "name": each.dataset.name,
                    "records": each.dataset.records,
                    "classes": len(each.dataset.class_names),
                    "sizeBytes": sum(split.size_bytes for split in each.dataset.splits.values()),
                }
                for each in self.entries
            ],
        }


def find_versions(uri: str, s3: store.S3Settings | None = None) -> VersionsInfo | None:
    """Describe the versions right below a folder or s3:// URI; None where there are none or it is a data set itself.

    Raises:
        errors.StorageError: the store failed.
    """
    above = store.open_store(uri, s3)
    if above.exists(dataset.KEY):
        return None
    found = tuple(versions.list_versions(above))
    try:
        latest, problem = versions.read_pointer(above), ""
    except errors.DataCorruptError as e:
        latest, problem = None, str(e)
    return VersionsInfo(uri=above.uri, entries=found, latest=latest, problem=problem) if found else None


def describe(uri: str, s3: store.S3Settings | None = None) -> DatasetInfo:
    """Describe the data set at a folder, an s3:// URI or a `latest` URI, from its `dataset.json` alone.

    Raises:
        errors.ObjectNotFoundError: no data set is there.
        errors.DataCorruptError: its description is damaged.
        errors.StorageError: the store failed.
    """
    place = versions.locate(uri, s3)
    loaded = versions.load(place)
    return DatasetInfo(
        uri=place.objects.uri,
        version=place.version,
        name=loaded.name,
        digest=loaded.digest,
        class_names=loaded.class_names,
        image=loaded.image,
        mean=loaded.mean,
        std=loaded.std,
        split_seed=loaded.split_seed,
        split_ratios=loaded.split_ratios,
        size_histogram=loaded.size_histogram,
        duplicates=loaded.duplicates,
        packing=loaded.packing,
        splits=tuple(
            SplitInfo(
                name=name,
                records=split.records,
                shards=len(split.shards),
                size_bytes=split.size_bytes,
                class_counts=dict(zip(loaded.class_names, split.class_counts, strict=True)),
            )
            for name, split in loaded.splits.items()
        ),
    )
