"""What the fetcher costs beside bare obstore, what its hedges save, and what the fault proxy itself takes.

    python benchmarks/fetching.py

Both read the same ranges of one object on versitygw, with as many requests at a time, in turns; MB per CPU-second are
of the client's process alone, the best of the rounds. Then the same ranges are read through the fault proxy (150 ms to
the first byte, 1% of GETs stalled 2 s, 0.5% 503, 0.1% resets), with hedging and without, and the proxy's own cost is
measured. `make versitygw` builds the server.
"""

import argparse
import asyncio
import collections
import functools
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "support"))

import numpy as np
import obstore
from obstore.store import S3Store

import fault_proxy
import s3_servers
from imagetrain_trainer.storage import concurrency, fetching, hedging, s3_ranges, store

KEY = "object"
OBJECT_BYTES = 64 * 1024 * 1024
FAULTS = {
    "first_byte_delay_seconds": 0.15,
    "stall_fraction": 0.01,
    "stall_seconds": 2,
    "slow_down_fraction": 0.005,
    "reset_fraction": 0.001,
}
Ranges = Sequence[tuple[int, int]]


def build_ranges(count: int, length: int) -> Ranges:
    """Return random ranges of the object."""
    draw = np.random.default_rng(length)
    return [(int(draw.integers(OBJECT_BYTES - length)), length) for _ in range(count)]


def read_bare(server: s3_servers.S3Server, bucket: str, ranges: Ranges, requests: int) -> None:
    """Read the ranges by obstore's `get_range_async` alone."""
    bare = S3Store(
        bucket,
        endpoint=server.endpoint_url,
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,
        region=server.region,
        client_options=s3_ranges.CLIENT | {"allow_http": True},
    )

    async def read() -> None:
        free = asyncio.Semaphore(requests)

        async def read_one(start: int, length: int) -> None:
            async with free:
                assert len(await obstore.get_range_async(bare, KEY, start=start, length=length)) == length

        await asyncio.gather(*[read_one(*place) for place in ranges])

    asyncio.run(read())


def read_fetched(objects: store.ObjectStore, ranges: Ranges, options: fetching.FetchOptions) -> list[float]:
    """Read the ranges by a fetcher, some ahead; return the seconds from asking to having, of each."""
    seconds: list[float] = []

    def note(asked: float, _: object) -> None:
        seconds.append(time.monotonic() - asked)

    with fetching.Fetcher(objects, options) as fetcher:
        pending: collections.deque[fetching.Future[memoryview]] = collections.deque()
        for start, length in ranges:
            asked = time.monotonic()
            pending.append(fetcher.get(KEY, start, length))
            pending[-1].add_done_callback(functools.partial(note, asked))
            if len(pending) >= options.limits.initial:
                pending.popleft().result()
        for future in pending:
            future.result()
    return seconds


def measure(read: Callable[[], object], size_bytes: int) -> tuple[float, float]:
    """Return MB a second and MB per CPU-second of this process."""
    started, cpu_started = time.perf_counter(), time.process_time()
    read()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    return size_bytes / seconds / 1e6, size_bytes / cpu_seconds / 1e6


def compare(server: s3_servers.S3Server, bucket: str, rounds: int, length: int, count: int, requests: int) -> None:
    """Print the fetcher's cost beside obstore's for ranges of one length."""
    objects = store.open_store(f"s3://{bucket}/")
    ranges = build_ranges(count, length)
    options = fetching.FetchOptions(limits=concurrency.ConcurrencyOptions(initial=requests, most=requests))
    reads: dict[str, Callable[[], object]] = {
        "obstore": functools.partial(read_bare, server, bucket, ranges, requests),
        "fetcher": functools.partial(read_fetched, objects, ranges, options),
    }
    results = [{name: measure(read, count * length) for name, read in reads.items()} for _ in range(rounds)]
    best = {name: max(result[name][1] for result in results) for name in reads}
    for name in reads:
        fastest = max(result[name][0] for result in results)
        print(f"{length:>9} bytes  {name:8} {fastest:7.0f} MB/s {best[name]:7.0f} MB per CPU-second")
    print(f"{length:>9} bytes  ratio    {best['fetcher'] / best['obstore']:.2f} per CPU-second")


def show_hedging(server: s3_servers.S3Server, bucket: str, name: str, fraction: float) -> None:
    """Print how long ranges take through the proxy."""
    with fault_proxy.running(server) as proxy:
        os.environ.update(proxy.server.environment())
        objects = store.open_store(f"s3://{bucket}/")
        proxy.set(**FAULTS)
        options = fetching.FetchOptions(hedges=hedging.HedgeOptions(fraction=fraction))
        seconds = sorted(read_fetched(objects, build_ranges(1000, 1024 * 1024), options))
        p50, p99 = (seconds[int(len(seconds) * quantile)] for quantile in (0.5, 0.99))
        extra = proxy.counts()["gets"] / len(seconds) - 1
        print(f"{name:11} p50 {p50:.3f} s  p99 {p99:.3f} s  longest {seconds[-1]:.3f} s  {extra:.1%} more GETs")


def show_proxy(server: s3_servers.S3Server, bucket: str, length: int, count: int) -> None:
    """Print what the proxy takes while it does nothing to the bytes."""
    with fault_proxy.running(server) as proxy:
        before = proxy.cpu_seconds()
        read_bare(proxy.server, bucket, build_ranges(count, length), 8)
        used = proxy.cpu_seconds() - before
        print(f"{length:>9} bytes  proxy    {count * length / used / 1e6:7.0f} MB per CPU-second of the proxy")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        s3_servers.versitygw_server(pathlib.Path(folder) / "server", is_keeping_alive=True) as server,
    ):
        os.environ.update(server.environment())
        bucket = server.create_bucket("benchmark")
        server.client().put_object(Bucket=bucket, Key=KEY, Body=np.random.default_rng(0).bytes(OBJECT_BYTES))
        compare(server, bucket, arguments.rounds, 8 * 1024 * 1024, 100, 8)
        compare(server, bucket, arguments.rounds, 110_000, 2000, 16)
        show_hedging(server, bucket, "hedged", hedging.HedgeOptions().fraction)
        show_hedging(server, bucket, "not hedged", 0.0)
        show_proxy(server, bucket, 8 * 1024 * 1024, 100)
        show_proxy(server, bucket, 110_000, 2000)


if __name__ == "__main__":
    main()
