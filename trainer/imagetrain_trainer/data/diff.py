"""What differs between two data sets: classes, counts, and every record by its key and its image.

Descriptions are compared first; equal digests end it there. Otherwise each shard is read once (one that both sets have
is read for both) and its records go to a sqlite file in the temporary folder, which sorts them on disk, so memory is
bounded whatever the size of the sets.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from imagetrain_trainer.data import dataset as dataset_module
from imagetrain_trainer.data import diff_records, versions
from imagetrain_trainer.data.dataset import Dataset
from imagetrain_trainer.storage import store


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DiffOptions:
    """How deep to compare."""

    is_counting_only: bool = False
    """Compare the descriptions alone: no record is read."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CountChange:
    """Records of one class in one split, in A and in B."""

    split: str
    class_name: str
    before: int
    after: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DatasetDiff:
    """The differences between data set A and data set B.

    Attributes:
        uris: of A and of B.
        digests: of A and of B.
        classes_added: class names that only B has.
        classes_removed: class names that only A has.
        is_reordered: whether a class that both have has another label in B.
        facts: (name, in A, in B) of what else the descriptions say: of the images, the split, the shards.
        counts: numbers of records that differ, by split and class.
        records: the comparison record by record; None where it was not asked for or the digests are equal.
    """

    uris: tuple[str, str]
    digests: tuple[str, str]
    classes_added: tuple[str, ...] = ()
    classes_removed: tuple[str, ...] = ()
    is_reordered: bool = False
    facts: tuple[tuple[str, str, str], ...] = ()
    counts: tuple[CountChange, ...] = ()
    records: diff_records.RecordDiff | None = None

    @property
    def is_identical(self) -> bool:
        """Tell whether both have one digest: then all bytes are the same."""
        return self.digests[0] == self.digests[1]

    @property
    def is_same(self) -> bool:
        """Tell whether both hold the same images under the same labels in the same splits, however they are packed."""
        is_listed = self.classes_added or self.classes_removed or self.is_reordered or self.counts
        return self.is_identical or (not is_listed and (self.records is None or self.records.is_same))

    def as_json(self) -> dict[str, Any]:
        """Return a document for `json.dumps`, with camelCase keys."""
        return {
            "a": {"uri": self.uris[0], "digest": self.digests[0]},
            "b": {"uri": self.uris[1], "digest": self.digests[1]},
            "isIdentical": self.is_identical,
            "isSame": self.is_same,
            "classesAdded": list(self.classes_added),
            "classesRemoved": list(self.classes_removed),
            "isReordered": self.is_reordered,
            "facts": {name: {"a": before, "b": after} for name, before, after in self.facts},
            "counts": [
                {"split": each.split, "class": each.class_name, "a": each.before, "b": each.after}
                for each in self.counts
            ],
            "records": self.records.as_json() if self.records else None,
        }


def diff(
    uri_a: str,
    uri_b: str,
    options: DiffOptions | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    s3: store.S3Settings | None = None,
) -> DatasetDiff:
    """Compare two data sets.

    Args:
        uri_a: a folder, an s3:// URI or a `latest` URI.
        uri_b: likewise.
        options: see `DiffOptions`.
        on_progress: called with the bytes of shards read and to read.
        s3: settings that override the AWS environment.

    Raises:
        errors.ObjectNotFoundError: one of them is not there.
        errors.DataCorruptError: a description or a record is damaged; names shard and record.
        errors.StorageError: the store failed.
        errors.DiskFullError: the temporary folder is full.
    """
    places = (versions.locate(uri_a, s3), versions.locate(uri_b, s3))
    a, b = (versions.load(place) for place in places)
    found = DatasetDiff(uris=(places[0].objects.uri, places[1].objects.uri), digests=(a.digest, b.digest))
    if found.is_identical:
        return found
    found = dataclasses.replace(
        found,
        classes_added=tuple(name for name in b.class_names if name not in set(a.class_names)),
        classes_removed=tuple(name for name in a.class_names if name not in set(b.class_names)),
        is_reordered=_is_reordered(a, b),
        facts=tuple(_compare_facts(a, b)),
        counts=tuple(_compare_counts(a, b)),
    )
    if (options or DiffOptions()).is_counting_only:
        return found
    sides = (diff_records.Side(places[0].objects, a), diff_records.Side(places[1].objects, b))
    return dataclasses.replace(found, records=diff_records.compare(sides, on_progress))


def _is_reordered(a: Dataset, b: Dataset) -> bool:
    labels = {name: label for label, name in enumerate(b.class_names)}
    return any(labels.get(name, label) != label for label, name in enumerate(a.class_names))


def _compare_facts(a: Dataset, b: Dataset) -> list[tuple[str, str, str]]:
    facts = [(_describe_facts(each)) for each in (a, b)]
    return [(name, facts[0][name], facts[1][name]) for name in facts[0] if facts[0][name] != facts[1][name]]


def _describe_facts(dataset: Dataset) -> dict[str, str]:
    image = dataset.image
    shards = sum(len(split.shards) for split in dataset.splits.values())
    return {
        "name": dataset.name,
        "encoding": image.encoding,
        "channels": str(image.channels),
        "size": f"{image.min_height}-{image.max_height} x {image.min_width}-{image.max_width}",
        "mean": ", ".join(f"{value:g}" for value in dataset.mean),
        "std": ", ".join(f"{value:g}" for value in dataset.std),
        "splitSeed": str(dataset.split_seed),
        "shards": str(shards),
        "sizeBytes": str(sum(split.size_bytes for split in dataset.splits.values())),
    }


def _compare_counts(a: Dataset, b: Dataset) -> list[CountChange]:
    names = list(dict.fromkeys([*a.class_names, *b.class_names]))
    changes = []
    for split in dataset_module.SPLITS:
        before, after = (dict(zip(each.class_names, each.splits[split].class_counts, strict=True)) for each in (a, b))
        for name in names:
            counts = (before.get(name, 0), after.get(name, 0))
            if counts[0] != counts[1]:
                changes.append(CountChange(split=split, class_name=name, before=counts[0], after=counts[1]))
    return changes
