"""How fast records come from S3, from a folder and from the disk cache, beside what has less to do.

    python benchmarks/reading.py [--records 4000] [--record-bytes 110000]

A data set of random records lies on a real S3 server (versitygw) and in a folder. Each way reads every record of it:
obstore alone, the reader (GET, CRC, parse, in shuffled batches of 64), the reader again from its disk cache, the reader
on the folder, and tf.data.TFRecordDataset on the folder. Also: the first batch after a resume, and the memory that
reading takes. Ratios are within this run; exits with 1 when one is missed. `make bench-reading` builds the server.

What a run reads comes from another machine's cores. So for the figures of S3 the server runs on half of the cores, and
both readers, one after the other, on the other half; connections are kept, as Amazon S3 keeps them. The ratio where
all share all cores is printed beside: there, the server takes the time that the reader needs for its checks.
"""

import argparse
import asyncio
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "support"))

import obstore
import obstore.store

import s3_servers
from imagetrain_trainer.data import prefetch, reader, sampler
from imagetrain_trainer.storage import store
from input_bench import cores, measures, places

BATCH = 64
BY_BLOCKS = reader.ReaderOptions(in_memory_bytes=0)
_BARE_REQUESTS = 8
_ROUNDS = 6


def read_bare(server: s3_servers.S3Server, objects: store.ObjectStore) -> measures.Stretch:
    """Get every block by obstore alone, several requests at a time."""
    bare = obstore.store.S3Store(
        places.BUCKET,
        prefix="set",
        endpoint=server.endpoint_url,
        region=server.region,
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    with reader.DatasetReader(objects, "train", BY_BLOCKS) as records:
        ranges = [plan_range(records, block) for block in range(records.layout.blocks)]

    async def get_all() -> int:
        limit = asyncio.Semaphore(_BARE_REQUESTS)

        async def get(key: str, start: int, end: int) -> int:
            async with limit:
                return len(await obstore.get_range_async(bare, key, start=start, end=end))

        return sum(await asyncio.gather(*(get(*one) for one in ranges)))

    with measures.measured("S3: obstore alone, the same ranges") as stretch:
        stretch.size_bytes = asyncio.run(get_all())
    return stretch


def plan_range(records: reader.DatasetReader, block: int) -> tuple[str, int, int]:
    """Return the shard and the byte range of a block."""
    first, stop = records.layout.block_range(block)
    number = records.layout.shard_of(block)
    base = int(records.origin.first_records[number])
    entries = records.origin.indexes.entries(number)[first - base : stop - base]
    return (
        records.origin.shards[number].key,
        int(entries[0]["offset"]),
        int(entries[-1]["offset"]) + int(entries[-1]["length"]),
    )


def read_epoch_of(objects: store.ObjectStore, name: str, options: reader.ReaderOptions = BY_BLOCKS) -> measures.Stretch:
    """Read a shuffled epoch in batches."""
    with reader.DatasetReader(objects, "train", options) as records:
        plan = sampler.Sampler(records.layout, BATCH)
        steps = map(plan.batch_records, range(plan.steps_per_epoch))
        with measures.measured(name) as stretch, prefetch.Prefetcher(records, steps) as ahead:
            stretch.size_bytes = sum(batch.size_bytes for batch in ahead)
    return stretch


def read_tensorflow(folder: pathlib.Path) -> measures.Stretch:
    """Read all records by tf.data, parsed and in batches."""
    import tensorflow as tf  # noqa: PLC0415 - its threads and memory are no part of the other measures

    features = {
        "image/encoded": tf.io.FixedLenFeature((), tf.string),
        "image/class/label": tf.io.FixedLenFeature((), tf.int64),
    }
    files = sorted(map(str, (folder / "train").glob("*.tfrecord")))
    with measures.measured("folder: tf.data.TFRecordDataset") as stretch:
        data = tf.data.TFRecordDataset(files, num_parallel_reads=2).batch(BATCH)
        data = data.map(lambda batch: tf.io.parse_example(batch, features), num_parallel_calls=2).prefetch(2)
        stretch.size_bytes = sum(int(tf.reduce_sum(tf.strings.length(batch["image/encoded"]))) for batch in data)
    return stretch


def time_first_batch(objects: store.ObjectStore) -> float:
    """Open the data set and get one batch from the middle of an epoch, as a resumed run does; return the seconds."""
    started = time.perf_counter()
    with reader.DatasetReader(objects, "train", BY_BLOCKS) as records:
        plan = sampler.Sampler(records.layout, BATCH)
        middle = plan.steps_per_epoch * 3 // 2
        with prefetch.Prefetcher(records, map(plan.batch_records, range(middle, 2 * middle))) as ahead:
            next(ahead)
            return time.perf_counter() - started


def measure_memory(uri: str) -> float:
    """Return the MiB that an epoch adds to a process with the trainer's modules loaded."""
    command = [sys.executable, __file__, "--memory-of", uri]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def read_peak_memory() -> int:
    """Return the most KiB that this process had resident so far."""
    status = pathlib.Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1])


def print_memory(uri: str) -> None:
    """Read an epoch and print by how much the peak of this process's memory rose."""
    objects = store.open_store(uri)
    before = read_peak_memory()
    with reader.DatasetReader(objects, "train", BY_BLOCKS) as records:
        plan = sampler.Sampler(records.layout, BATCH)
        with prefetch.Prefetcher(records, map(plan.batch_records, range(plan.steps_per_epoch))) as ahead:
            for _ in ahead:
                pass
    print((read_peak_memory() - before) / 1024)


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=4000)
    parser.add_argument("--record-bytes", type=int, default=110_000)
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        print_memory(arguments.memory_of)
        return 0
    with places.versitygw(is_keeping_alive=True) as server, tempfile.TemporaryDirectory() as work:
        return compare(pathlib.Path(work), server, arguments.records, arguments.record_bytes)


def compare(work: pathlib.Path, server: s3_servers.S3Server, records: int, record_bytes: int) -> int:
    """Measure every way; return the exit status."""
    folder, uri = work / "set", f"s3://{places.BUCKET}/set/"
    remote, local = store.open_store(uri), store.open_store(str(folder))
    for objects in (remote, local):
        places.write_data_set(objects, records, record_bytes)
    read_epoch_of(remote, "warm-up")
    ours, bare = compare_with_bare(server, remote)
    print(f"on shared cores: {ours.megabytes_per_second / bare.megabytes_per_second:.2f} of obstore alone", flush=True)
    if cores.can_part():
        with cores.apart():
            ours, bare = compare_with_bare(server, remote)
    cached = reader.ReaderOptions(
        in_memory_bytes=0, cache=reader.CacheOptions(folder=work / "cache", max_bytes=4 * records * record_bytes)
    )
    read_epoch_of(remote, "S3: the same, filling the disk cache", cached)
    read_epoch_of(remote, "S3: what is missing yet", cached)  # a reader that is closed keeps no more of what it has
    os.sync()  # else the disk's own work falls into the next epochs
    again = best_of(lambda: read_epoch_of(remote, "disk cache: CRC + parse", cached))
    files = best_of(lambda: read_epoch_of(local, "folder: read + CRC + parse"))
    tensorflow = best_of(lambda: read_tensorflow(folder))
    verdict = measures.Verdict()
    verdict.at_least("S3: MB per CPU-second", ours.megabytes_per_cpu_second, 400)
    verdict.at_least("S3: MB/s beside obstore alone", ours.megabytes_per_second / bare.megabytes_per_second, 0.8)
    verdict.at_least(
        "folder: MB/s beside TFRecordDataset", files.megabytes_per_second / tensorflow.megabytes_per_second, 0.9
    )
    verdict.at_least(
        "disk cache: MB/s beside the folder", again.megabytes_per_second / files.megabytes_per_second, 0.95
    )
    verdict.at_most("first batch after a resume, s", min(time_first_batch(remote) for _ in range(3)), 1.0)
    verdict.at_most("memory of reading an epoch, MiB", measure_memory(uri), 300)
    return 0 if verdict.is_reached else 1


def compare_with_bare(
    server: s3_servers.S3Server, remote: store.ObjectStore
) -> tuple[measures.Stretch, measures.Stretch]:
    """Return the best epochs of the reader and of obstore alone, which take turns."""
    ours, bare = [], []
    for _ in range(_ROUNDS):
        ours.append(read_epoch_of(remote, "S3: GET + CRC + parse"))
        bare.append(read_bare(server, remote))
    return min(ours, key=lambda stretch: stretch.seconds), min(bare, key=lambda stretch: stretch.seconds)


def best_of(run: Callable[[], measures.Stretch]) -> measures.Stretch:
    """Return the fastest of three, for other programs of the machine only ever slow one down."""
    return min((run() for _ in range(3)), key=lambda stretch: stretch.seconds)


if __name__ == "__main__":
    sys.exit(main())
