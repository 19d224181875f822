"""How many records and bytes a second the reader gives from a real S3 server, beside bare obstore on the same objects.

    python benchmarks/data_reader.py --server versitygw --record-bytes 110000 --records 2000

A data set of random bytes in JPEG's place is written, and each way reads every record once in the sampler's order, in
batches of 64: obstore's get_ranges alone, and `DatasetReader` (GET, CRC, parse). The last line is the ratio of both.
`make versitygw` builds the server; moto (`--server moto`) and a folder (`--server folder`) need nothing.
"""

import argparse
import concurrent.futures
import contextlib
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "support"))

import numpy as np
import numpy.typing as npt

import s3_servers
from imagetrain_trainer.data import blocks, dataset, example, reader, sampler, shard_writer
from imagetrain_trainer.storage import store

BATCH = 64


@contextlib.contextmanager
def open_place(server: str) -> Iterator[store.ObjectStore]:
    """Open an empty store on the server that is asked for."""
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if server == "folder":
            yield store.open_store(str(folder / "data"))
            return
        running = stack.enter_context(
            s3_servers.moto_server() if server == "moto" else s3_servers.versitygw_server(folder / "server")
        )
        os.environ.update(running.environment())
        yield store.open_store(f"s3://{running.create_bucket('benchmark')}/data/")


def write_data_set(objects: store.ObjectStore, records: int, record_bytes: int) -> None:
    """Write a train split of random records, and empty other splits."""
    random = np.random.default_rng(0)
    writer = shard_writer.ShardWriter(objects, "train", 64 * 1024 * 1024)
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


def measure(name: str, read: Callable[[], int]) -> float:
    """Run a read of everything, print its speed, and return bytes a second."""
    started, cpu_started = time.perf_counter(), time.process_time()
    size_bytes = read()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    print(f"{name:24} {size_bytes / seconds / 1e6:8.1f} MB/s {size_bytes / cpu_seconds / 1e6:8.1f} MB per CPU-second")
    return size_bytes / seconds


def read_bare(records: reader.DatasetReader, objects: store.ObjectStore, plan: sampler.Sampler) -> int:
    """Get the same ranges through the store alone, from as many shards at a time."""
    entries, shards = records._entries, records.dataset.splits["train"].shards  # noqa: SLF001 - the same plan
    firsts = np.cumsum([0, *(shard.records for shard in shards)])

    def get(number: int, ids: npt.NDArray[np.int64]) -> int:
        here = entries[ids[(ids >= firsts[number]) & (ids < firsts[number + 1])]]
        chunks = objects.get_ranges(shards[number].key, here["offset"].tolist(), here["length"].tolist())
        return sum(map(len, chunks))

    total = 0
    with concurrent.futures.ThreadPoolExecutor(reader.ReaderOptions().concurrent_gets) as pool:
        for step in range(plan.steps_per_epoch):
            ids = np.sort(plan.batch_records(step))
            total += sum(pool.map(get, range(len(shards)), [ids] * len(shards)))
    return total


def read_records(records: reader.DatasetReader, plan: sampler.Sampler) -> int:
    """Read every batch."""
    return sum(records.read(plan.batch_records(step)).size_bytes for step in range(plan.steps_per_epoch))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=["versitygw", "moto", "folder"], default="versitygw")
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--record-bytes", type=int, default=110_000)
    arguments = parser.parse_args()
    with open_place(arguments.server) as objects:
        write_data_set(objects, arguments.records, arguments.record_bytes)
        options = reader.ReaderOptions(in_memory_bytes=0)
        with reader.DatasetReader(objects, "train", options) as records:
            layout = blocks.plan_split(records.dataset.splits["train"])
            plan = sampler.Sampler(layout, BATCH)
            read_records(records, sampler.Sampler(layout, BATCH, 9))  # warm connections and page cache
            bare = measure("ranges alone", lambda: read_bare(records, objects, plan))
            ours = measure("GET + CRC + parse", lambda: read_records(records, plan))
            print(f"ratio {ours / bare:.2f}")


if __name__ == "__main__":
    main()
