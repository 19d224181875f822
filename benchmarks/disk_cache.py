"""What the disk cache costs beside plain local files with the same check, and how much of an epoch it finds.

    python benchmarks/disk_cache.py --folder /var/tmp --pieces 256 --piece-bytes 1048576 --entries 100000

Reading and writing: the same pieces as plain files (open, read or write and rename, CRC32C) and through the cache, in
turn, so that both meet the same machine; the figures are medians of CPU time. Hits: epochs in random
order over twice as many pieces as fit, beside the same accesses to an LRU of that size. Scan: evictions in a folder of
many entries. Nothing leaves the page cache: this measures the code, not the disk.
"""

import argparse
import collections
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np

from imagetrain_trainer.data import cache_folder, disk_cache, tfrecord

ROUNDS = 15


def read_plain(path: str, crc: int) -> None:
    """Read a file and check it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    os.close(descriptor)
    if tfrecord.crc32c(data) != crc:
        raise AssertionError(path)


def write_plain(path: str, piece: bytes) -> None:
    """Write a file atomically, with the work of a CRC."""
    descriptor = os.open(f"{path}.partial", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    tfrecord.crc32c(piece)
    os.write(descriptor, piece)
    os.close(descriptor)
    pathlib.Path(f"{path}.partial").rename(path)


def in_turn(
    what: str, count: int, piece_bytes: int, plain: Callable[[int], object], cached: Callable[[int], object]
) -> None:
    """Do both for every piece, one right after the other, and print MB per CPU-second and their ratio."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS * count):
        for which in (0, 1) if number % 2 else (1, 0):
            started = time.thread_time()
            (plain, cached)[which](number % count)
            seconds[which].append(time.thread_time() - started)
    first, second = (piece_bytes / 1e6 / statistics.median(times) for times in seconds)
    print(f"{what:6} plain {first:6.0f}  cache {second:6.0f} MB per CPU-second  ratio {second / first:.3f}")


def compare_reading_and_writing(folder: pathlib.Path, count: int, piece_bytes: int) -> None:
    """Print both ratios."""
    pieces = [np.random.default_rng(number).bytes(piece_bytes) for number in range(count)]
    keys = [f"train-00000.tfrecord/{number * piece_bytes}" for number in range(count)]
    paths = [f"{folder}/plain/{number}" for number in range(count)]
    crcs = [tfrecord.crc32c(piece) for piece in pieces]
    (folder / "plain").mkdir()
    cache = disk_cache.DiskCache(folder / "cache", 4 * count * (piece_bytes + 8192), "sha256:benchmark")

    def write_cached(number: int) -> None:
        cache.discard(keys[number])
        cache.put(keys[number], pieces[number])

    def write_file(number: int) -> None:
        pathlib.Path(paths[number]).unlink(missing_ok=True)
        write_plain(paths[number], pieces[number])

    in_turn("write", count, piece_bytes, write_file, write_cached)
    in_turn("read", count, piece_bytes, lambda n: read_plain(paths[n], crcs[n]), lambda n: cache.get(keys[n]))
    if cache.counters.misses or cache.counters.refused:
        raise AssertionError(cache.counters)


def count_hits(folder: pathlib.Path, count: int, epochs: int) -> None:
    """Print how much of later epochs is found where half of the pieces fit."""
    cache = disk_cache.DiskCache(folder / "half", count // 2 * 4096, "sha256:half")
    lru: collections.OrderedDict[int, None] = collections.OrderedDict()
    lru_hits, first_hits = 0, 0
    for epoch in range(epochs):
        order = np.random.default_rng(epoch).permutation(count).tolist()
        if epoch == 1:
            first_hits, lru_hits = cache.counters.hits, 0
        for number in order:
            if cache.get(f"{number}") is None:
                cache.put(f"{number}", b"x")
            lru_hits += number in lru
            lru[number] = None
            lru.move_to_end(number)
            if len(lru) > count // 2:
                lru.popitem(last=False)
    reads = count * (epochs - 1)
    print(f"hits   cache {(cache.counters.hits - first_hits) / reads:.3f}  LRU {lru_hits / reads:.3f}  (half fits)")


def time_scan(folder: pathlib.Path, entries: int) -> None:
    """Print what an eviction among many small entries takes."""
    place = folder / "many"
    cache = disk_cache.DiskCache(place, entries * 4096, "sha256:old")
    started = time.perf_counter()
    for number in range(entries):
        cache.put(f"{number}", b"x")
    put_seconds = time.perf_counter() - started
    started = time.perf_counter()
    evicted = cache_folder.CacheFolder(place, entries * 4096).make_room(4096, "00000000")
    seconds = time.perf_counter() - started
    del cache
    started = time.perf_counter()
    also = cache_folder.CacheFolder(place, entries * 4096).make_room(4096, "00000000")
    both_seconds = time.perf_counter() - started
    print(
        f"scan   {entries} entries {seconds:.2f} s ({evicted and evicted.entries} removed); with eviction of "
        f"{also and also.entries}: {both_seconds:.2f} s; a put {put_seconds / entries * 1e6:.0f} us"
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="a disk with room for three times the pieces  [default: the temporary one]")
    parser.add_argument("--pieces", type=int, default=256)
    parser.add_argument("--piece-bytes", type=int, default=1024 * 1024)
    parser.add_argument("--entries", type=int, default=20_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = pathlib.Path(name)
        compare_reading_and_writing(folder, arguments.pieces, arguments.piece_bytes)
        count_hits(folder, 2000, 4)
        time_scan(folder, arguments.entries)


if __name__ == "__main__":
    main()
