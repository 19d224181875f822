"""Where benchmarks keep data sets, and data sets of random records for them."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator

import numpy as np

import fault_proxy
import s3_servers
from imagetrain_trainer.data import dataset, example, shard_writer
from imagetrain_trainer.storage import store

SHARD_BYTES = 64 * 1024 * 1024
BUCKET = "benchmark"


@contextlib.contextmanager
def versitygw() -> Iterator[s3_servers.VersitygwServer]:
    """Run an S3 server with one empty bucket, and point the AWS environment at it."""
    with tempfile.TemporaryDirectory() as folder, s3_servers.versitygw_server(pathlib.Path(folder) / "s3") as server:
        server.create_bucket(BUCKET)
        os.environ.update(server.environment())
        yield server


@contextlib.contextmanager
def faulty(
    server: s3_servers.VersitygwServer,
) -> Iterator["fault_proxy.FaultProxy[s3_servers.VersitygwServer]"]:
    """Put a proxy in front of the server that does what it is told to, and point the AWS environment at it."""
    with fault_proxy.running(server) as proxy:
        os.environ.update(proxy.server.environment())
        yield proxy


def write_data_set(objects: store.ObjectStore, records: int, record_bytes: int) -> None:
    """Write a train split of records that are random bytes in JPEG's place, and empty other splits."""
    random = np.random.default_rng(0)
    writer = shard_writer.ShardWriter(objects, "train", SHARD_BYTES)
    for number in range(records):
        writer.add(example.Record(random.bytes(record_bytes), number % 2, "jpeg", 1, 1, 3, f"{number}"))
    counts = shard_writer.count_classes((number % 2 for number in range(records)), 2)
    empty = dataset.Split(records=0, class_counts=(0, 0), shards=())
    train = dataset.Split(records=records, class_counts=counts, shards=writer.finish())
    image = dataset.ImageFacts(
        encoding="jpeg", channels=3, height=1, width=1, min_height=1, max_height=1, min_width=1, max_width=1
    )
    described = dataset.Dataset(
        name="benchmark",
        class_names=("a", "b"),
        image=image,
        splits={"train": train, "validation": empty, "test": empty},
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        split_seed=0,
        split_ratios={},
    )
    objects.put(dataset.KEY, dataset.seal(described)[1])
