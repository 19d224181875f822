"""What a packed data set holds, as plain data for printing."""

import dataclasses
from typing import Any

from imagetrain_trainer.data import dataset
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
    """A data set's description; `image`, `mean` and `std` are those of `dataset.Dataset`."""

    uri: str
    name: str
    digest: str
    class_names: tuple[str, ...]
    image: dataset.ImageFacts
    mean: tuple[float, ...]
    std: tuple[float, ...]
    split_seed: int
    splits: tuple[SplitInfo, ...]

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
        return {
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


def describe(uri: str, s3: store.S3Settings | None = None) -> DatasetInfo:
    """Describe the data set at a folder or s3:// URI, from its `dataset.json` alone.

    Raises:
        errors.ObjectNotFoundError: no data set is there.
        errors.DataCorruptError: its description is damaged.
        errors.StorageError: the store failed.
    """
    objects = store.open_store(uri, s3)
    loaded = dataset.load_dataset(objects)
    return DatasetInfo(
        uri=objects.uri,
        name=loaded.name,
        digest=loaded.digest,
        class_names=loaded.class_names,
        image=loaded.image,
        mean=loaded.mean,
        std=loaded.std,
        split_seed=loaded.split_seed,
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
