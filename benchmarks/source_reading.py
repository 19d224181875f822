"""What listing and reading the sources of a pack costs: time and memory of a long list, and S3 with a slow first byte.

    python benchmarks/source_reading.py [--lines 10000000]

It runs versitygw behind the tests' fault proxy, on this machine, and prints one line per figure.
"""

import argparse
import contextlib
import io
import os
import pathlib
import resource
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "support"))

import fault_proxy
import odd_images
import s3_servers
from imagetrain_trainer.data import encoding, images, pack_list, pack_worker, source_kinds, sources

_DELAY_SECONDS = 0.15
_BUCKET = "bench"
_PHOTOS, _SAMPLES, _SAMPLE_BYTES = 512, 600, 110_000


def measure_list(folder: pathlib.Path, lines: int) -> None:
    """Print the CPU time and memory that listing a CSV takes."""
    path = folder / "long.csv"
    with path.open("w") as file:
        file.write("path,label\n")
        file.writelines(f"images/of/some/length/{number:08}.jpg,{number % 1000}\n" for number in range(lines))
    source = source_kinds.open_source(path)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    count = sum(1 for _ in source.entries())
    seconds = time.process_time() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"CSV of {count:,} lines: {seconds / count * 1e6:.1f} us of CPU a line, {grown:.0f} MiB of memory")
    path.unlink()


@contextlib.contextmanager
def slow_store(folder: pathlib.Path) -> Iterator[None]:
    """Run a server whose objects' first bytes come late, with photos and a tar in it."""
    random = np.random.default_rng(0)
    with s3_servers.versitygw_server(folder) as server:
        client = server.client()
        server.create_bucket(_BUCKET)
        for number in range(_PHOTOS):
            data = odd_images.encode(random.integers(0, 256, (200, 200, 3), np.uint8), "JPEG", quality=95)
            client.put_object(Bucket=_BUCKET, Key=f"tree/{'ab'[number % 2]}/{number}.jpg", Body=data)
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for number in range(_SAMPLES):
                for name, body in ((f"{number}.jpg", random.bytes(_SAMPLE_BYTES)), (f"{number}.cls", b"1")):
                    info = tarfile.TarInfo(name)
                    info.size = len(body)
                    tar.addfile(info, io.BytesIO(body))
        client.put_object(Bucket=_BUCKET, Key="tars/0.tar", Body=out.getvalue())
        with fault_proxy.running(server) as proxy:
            os.environ.update(proxy.server.environment())
            proxy.set(first_byte_delay_seconds=_DELAY_SECONDS)
            yield


def measure_reads(source: sources.Source, reads: int, count: int) -> float:
    """Return the images that one worker process reads and checks in a second."""
    source.concurrent_reads = reads
    rows = [
        pack_list.Row(position, entry.key, 0, entry.locator)
        for position, entry in zip(range(count), source.entries(), strict=False)
    ]
    work = pack_worker.Work(source, encoding.EncodingOptions(), None, images.ImagePolicy())
    start = time.perf_counter()
    pack_worker.work_on(work, rows)
    return count / (time.perf_counter() - start)


def measure_store() -> None:
    """Print how fast objects are read and a tar is listed."""
    tree = source_kinds.open_source(f"s3://{_BUCKET}/tree/")
    together, one_by_one = measure_reads(tree, 16, _PHOTOS), measure_reads(tree, 1, 32)
    print(
        f"objects of 30 KB, {_DELAY_SECONDS * 1000:.0f} ms to the first byte: {together:.0f} images/s by one process, ",
        end="",
    )
    print(f"{one_by_one:.1f} one after the other: {together / one_by_one:.1f} times")
    start = time.perf_counter()
    count = sum(1 for _ in source_kinds.open_source(f"s3://{_BUCKET}/tars/").entries())
    rate = count * _SAMPLE_BYTES / (time.perf_counter() - start) / 1e6
    print(f"tar of {count} samples of {_SAMPLE_BYTES // 1000} KB on the same store: listed at {rate:.0f} MB/s")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        measure_list(folder, arguments.lines)
        (folder / "s3").mkdir()
        with slow_store(folder / "s3"):
            measure_store()


if __name__ == "__main__":
    main()
