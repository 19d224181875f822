"""`dataset.json`: what a packed data set holds, as frozen dataclasses. docs/dataset-format.md describes every key.

It is written last, so a prefix without it holds no data set, and its digest names one version of the data for ever.
"""

import dataclasses
import hashlib
import json
from typing import Any

from imagetrain_trainer import errors
from imagetrain_trainer.storage import object_store, store, whole_reads

KEY = "dataset.json"
SCHEMA_VERSION = 1
SPLITS = ("train", "validation", "test")
ENCODINGS = ("raw", "png", "jpeg", "mixed")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What all images of the set have in common.

    Attributes:
        encoding: "raw" (fixed-size uint8 arrays), "png", "jpeg", or "mixed" (png and jpeg).
        channels: 1 or 3, of every decoded image.
        height: pixels, or None when images differ.
        width: pixels, or None when images differ.
        min_height: of the lowest image; likewise the others.
        max_height: pixels.
        min_width: pixels.
        max_width: pixels.
    """

    encoding: str
    channels: int
    height: int | None
    width: int | None
    min_height: int
    max_height: int
    min_width: int
    max_width: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One TFRecord file and its byte index.

    Attributes:
        key: of the TFRecord file, relative to the data set.
        records: number of records.
        size_bytes: of the file.
        crc32c: of the file.
        sha256: of the file, hexadecimal.
        index_key: of the index, relative to the data set.
        index_size_bytes: of the index.
        index_crc32c: `shard_index.checksum` of the index.
    """

    key: str
    records: int
    size_bytes: int
    crc32c: int
    sha256: str
    index_key: str
    index_size_bytes: int
    index_crc32c: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One part of the data set; its record ids count through the shards in order.

    Attributes:
        records: number of records.
        class_counts: records of each class, in the order of the class names.
        shards: in order.
    """

    records: int
    class_counts: tuple[int, ...]
    shards: tuple[Shard, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of all shards, without indexes."""
        return sum(shard.size_bytes for shard in self.shards)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateCounts:
    """How often an image is there again, pixel for pixel.

    Attributes:
        images: copies beyond the first of each image.
        across_splits: images that are in more than one split.
        across_classes: images that have more than one label.
    """

    images: int
    across_splits: int
    across_classes: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A packed data set.

    Attributes:
        name: what the user calls it.
        class_names: label i is class_names[i].
        image: what all images have in common.
        splits: "train", "validation" and "test"; a split may have no records.
        mean: of each channel's pixels over the train split, in 0..255.
        std: likewise, the standard deviation.
        split_seed: of the split and of the order of records in the shards.
        split_ratios: the ratio asked for, by split; a split that the source gave has none.
        size_histogram: (upper bound of the longest side in pixels, images), rising; None for what is larger than the
            last bound. Empty in data sets packed before it was counted.
        duplicates: None in data sets packed before they were counted.
        packing: options of packing that shaped the images, as JSON; empty in data sets packed before they were noted.
        digest: "sha256:" and 64 hexadecimal digits over everything else here, shard checksums included.
    """

    name: str
    class_names: tuple[str, ...]
    image: ImageFacts
    splits: dict[str, Split]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    split_seed: int
    split_ratios: dict[str, float]
    size_histogram: tuple[tuple[int | None, int], ...] = ()
    duplicates: DuplicateCounts | None = None
    packing: dict[str, Any] = dataclasses.field(default_factory=dict)
    digest: str = ""

    @property
    def records(self) -> int:
        """Records of all splits."""
        return sum(split.records for split in self.splits.values())


def load_dataset(objects: store.ObjectStore) -> Dataset:
    """Read and check the `dataset.json` of a packed data set.

    Raises:
        errors.ObjectNotFoundError: there is none: nothing is packed there, or packing did not finish.
        errors.DataCorruptError: it does not parse, breaks a rule, or does not match its digest.
    """

    def read() -> Dataset:
        try:
            data = objects.get(KEY)
        except errors.ObjectNotFoundError as e:
            raise errors.ObjectNotFoundError(
                f"{objects.uri} holds no packed data set ({KEY} is missing): check data.uri, or pack one there with "
                "`imagetrain data pack`."
            ) from e
        try:
            return parse(data)
        except errors.DataCorruptError as e:
            raise errors.DataCorruptError(f"{objects.uri_of(KEY)} {e}. Pack or upload the data set again.") from e

    return whole_reads.read_whole(read)


def parse(data: bytes) -> Dataset:
    """Parse the bytes of a `dataset.json`. Keys that this version does not know are ignored, but count in the digest.

    Raises:
        errors.DataCorruptError: a rule is broken; the message is that rule, for the caller to prefix with the place.
    """
    try:
        document = json.loads(data)
        if document["schemaVersion"] != SCHEMA_VERSION:
            raise errors.DataCorruptError(
                f"must have schemaVersion {SCHEMA_VERSION}, got {str(document['schemaVersion'])[:20]!r}"
            )
        dataset = _parse_document(document)
        stated = document.pop("digest")
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise errors.DataCorruptError(f"must be a data set description ({type(e).__name__}: {str(e)[:80]})") from e
    if compute_digest(document) != stated:
        raise errors.DataCorruptError("must match its digest")
    _check(dataset)
    return dataset


def _parse_document(document: dict[str, Any]) -> Dataset:
    image, split = document["image"], document["split"]
    return Dataset(
        name=str(document["name"]),
        class_names=tuple(str(name) for name in document["classes"]),
        image=ImageFacts(**{field: image[key] for field, key in _IMAGE_KEYS.items()}),
        splits={name: _parse_split(document["splits"][name]) for name in SPLITS},
        mean=tuple(float(value) for value in document["statistics"]["mean"]),
        std=tuple(float(value) for value in document["statistics"]["std"]),
        split_seed=int(split["seed"]),
        split_ratios={str(name): float(ratio) for name, ratio in split["ratios"].items()},
        size_histogram=tuple(
            (bucket["upTo"], int(bucket["images"])) for bucket in document["statistics"].get("sizeHistogram", ())
        ),
        duplicates=_parse_duplicates(document.get("duplicates")),
        packing=dict(document.get("packing", {})),
        digest=str(document["digest"]),
    )


def _parse_duplicates(document: dict[str, Any] | None) -> DuplicateCounts | None:
    if document is None:
        return None
    return DuplicateCounts(**{field: int(document[key]) for field, key in _DUPLICATE_KEYS.items()})


def _parse_split(document: dict[str, Any]) -> Split:
    return Split(
        records=int(document["records"]),
        class_counts=tuple(int(count) for count in document["classCounts"]),
        shards=tuple(
            Shard(**{field: shard[key] for field, key in _SHARD_KEYS.items()}) for shard in document["shards"]
        ),
    )


def _check(dataset: Dataset) -> None:
    """Check what the rest of the data plane takes for granted."""
    image = dataset.image
    if image.encoding not in ENCODINGS or image.channels not in (1, 3):
        raise errors.DataCorruptError("must have a known image.encoding and 1 or 3 image.channels")
    if image.encoding == "raw" and (image.height is None or image.width is None):
        raise errors.DataCorruptError("must give image.height and image.width of raw images")
    for name, split in dataset.splits.items():
        counts = (sum(shard.records for shard in split.shards), sum(split.class_counts))
        if counts != (split.records, split.records) or len(split.class_counts) != len(dataset.class_names):
            raise errors.DataCorruptError(f"must have splits.{name}.records equal to its shards' and its classes' sums")
        for shard in split.shards:
            _check_shard_keys(shard)


def _check_shard_keys(shard: Shard) -> None:
    try:
        for key in (shard.key, shard.index_key):
            object_store.check_key(key)
    except (errors.ConfigError, AttributeError) as e:
        raise errors.DataCorruptError(f"must have relative shard keys ({e})") from e


def seal(dataset: Dataset) -> tuple[Dataset, bytes]:
    """Return the data set with its digest, and the bytes of its `dataset.json` (equal data sets give equal bytes)."""
    document = _render(dataset)
    digest = compute_digest(document)
    document["digest"] = digest
    text = json.dumps(document, indent=1, ensure_ascii=True) + "\n"
    return dataclasses.replace(dataset, digest=digest), text.encode()


def compute_digest(document: dict[str, Any]) -> str:
    """Return "sha256:..." of a document without its `digest`: its canonical JSON (sorted keys, no spaces, ASCII)."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def _render(dataset: Dataset) -> dict[str, Any]:
    document: dict[str, Any] = {
        "schemaVersion": SCHEMA_VERSION,
        "name": dataset.name,
        "image": render_image(dataset.image),
        "classes": list(dataset.class_names),
        "splits": {name: _render_split(split) for name, split in dataset.splits.items()},
        "statistics": {"mean": list(dataset.mean), "std": list(dataset.std)},
        "split": {"seed": dataset.split_seed, "ratios": {k: float(v) for k, v in dataset.split_ratios.items()}},
    }
    # Keys that came later are left out of older data sets, so that these keep their digest.
    if dataset.size_histogram:
        document["statistics"]["sizeHistogram"] = [
            {"upTo": bound, "images": count} for bound, count in dataset.size_histogram
        ]
    if dataset.duplicates is not None:
        document["duplicates"] = {key: getattr(dataset.duplicates, field) for field, key in _DUPLICATE_KEYS.items()}
    if dataset.packing:
        document["packing"] = dict(dataset.packing)
    return document


def _render_split(split: Split) -> dict[str, Any]:
    return {
        "records": split.records,
        "classCounts": list(split.class_counts),
        "shards": [{key: getattr(shard, field) for field, key in _SHARD_KEYS.items()} for shard in split.shards],
    }


def render_image(image: ImageFacts) -> dict[str, Any]:
    """Return the `image` object of a `dataset.json`."""
    return {key: getattr(image, field) for field, key in _IMAGE_KEYS.items()}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


_IMAGE_KEYS = {field.name: _camel(field.name) for field in dataclasses.fields(ImageFacts)}
_SHARD_KEYS = {field.name: _camel(field.name) for field in dataclasses.fields(Shard)}
_DUPLICATE_KEYS = {field.name: _camel(field.name) for field in dataclasses.fields(DuplicateCounts)}
