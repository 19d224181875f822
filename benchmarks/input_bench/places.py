"""Where benchmarks keep data sets, and data sets of random records for them."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator

import fault_proxy
import random_records
import s3_servers
from imagetrain_trainer.storage import store

SHARD_BYTES = 64 * 1024 * 1024
BUCKET = "benchmark"


@contextlib.contextmanager
def versitygw(*, is_keeping_alive: bool = False) -> Iterator[s3_servers.VersitygwServer]:
    """Run an S3 server with one empty bucket, and point the AWS environment at it."""
    with (
        tempfile.TemporaryDirectory() as folder,
        s3_servers.versitygw_server(pathlib.Path(folder) / "s3", is_keeping_alive=is_keeping_alive) as server,
    ):
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
    random_records.write(objects, records, record_bytes, SHARD_BYTES)
