"""Data sets of a few tiny records, written without packing: any keys, labels and splits, doubles included."""

import hashlib
from collections.abc import Iterable

import numpy as np

from imagetrain_trainer.data import dataset, example, shard_index, tfrecord
from imagetrain_trainer.storage import store

Row = tuple[str, int, str, bytes]
"""Split, label, key, and the four bytes of a gray image of 2 x 2 pixels."""


def write(objects: store.ObjectStore, class_names: tuple[str, ...], rows: Iterable[Row], name: str = "tiny") -> str:
    """Write a data set with one shard a split; return its digest."""
    by_split: dict[str, list[Row]] = {split: [] for split in dataset.SPLITS}
    for row in rows:
        by_split[row[0]].append(row)
    image = dataset.ImageFacts(
        encoding="raw", channels=1, height=2, width=2, min_height=2, max_height=2, min_width=2, max_width=2
    )
    sealed, document = dataset.seal(
        dataset.Dataset(
            name=name,
            class_names=class_names,
            image=image,
            splits={split: _write_split(objects, split, len(class_names), own) for split, own in by_split.items()},
            mean=(0.0,),
            std=(1.0,),
            split_seed=0,
            split_ratios={},
        )
    )
    objects.put(dataset.KEY, document)
    return sealed.digest


def _write_split(objects: store.ObjectStore, split: str, classes: int, rows: list[Row]) -> dataset.Split:
    if not rows:
        return dataset.Split(records=0, class_counts=(0,) * classes, shards=())
    frames, entries, offset = [], [], 0
    for _, label, key, pixels in rows:
        framed, crc = tfrecord.frame(example.encode_record(example.Record(pixels, label, "raw", 2, 2, 1, key)))
        frames.append(framed)
        entries.append((offset, len(framed), label, crc))
        offset += len(framed)
    data, index = b"".join(frames), shard_index.encode(np.array(entries, shard_index.ENTRY))
    shard = dataset.Shard(
        key=f"{split}/shard-00000.tfrecord",
        records=len(rows),
        size_bytes=len(data),
        crc32c=tfrecord.crc32c(data),
        sha256=hashlib.sha256(data).hexdigest(),
        index_key=f"{split}/shard-00000.index",
        index_size_bytes=len(index),
        index_crc32c=shard_index.checksum(index),
    )
    objects.put(shard.key, data)
    objects.put(shard.index_key, index)
    counts = np.bincount([label for _, label, _, _ in rows], minlength=classes)
    return dataset.Split(records=len(rows), class_counts=tuple(counts.tolist()), shards=(shard,))
