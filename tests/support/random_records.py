"""Data sets of records that are random bytes in JPEG's place, of any size, for what never decodes them."""

import numpy as np

from imagetrain_trainer.data import dataset, example, shard_writer
from imagetrain_trainer.storage import store


def write(objects: store.ObjectStore, records: int, record_bytes: int, shard_bytes: int) -> None:
    """Write a train split of two classes, keys "0", "1" and so on, and empty other splits."""
    random = np.random.default_rng(0)
    writer = shard_writer.ShardWriter(objects, "train", shard_bytes)
    for number in range(records):
        writer.add(example.Record(random.bytes(record_bytes), number % 2, "jpeg", 1, 1, 3, f"{number}"))
    counts = shard_writer.count_classes((number % 2 for number in range(records)), 2)
    empty = dataset.Split(records=0, class_counts=(0, 0), shards=())
    train = dataset.Split(records=records, class_counts=counts, shards=writer.finish())
    image = dataset.ImageFacts(
        encoding="jpeg", channels=3, height=1, width=1, min_height=1, max_height=1, min_width=1, max_width=1
    )
    described = dataset.Dataset(
        name="random",
        class_names=("a", "b"),
        image=image,
        splits={"train": train, "validation": empty, "test": empty},
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        split_seed=0,
        split_ratios={},
    )
    objects.put(dataset.KEY, dataset.seal(described)[1])
