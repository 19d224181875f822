"""What `imagetrain data verify` and `diff` cost in processor time and memory.

    python benchmarks/data_tools.py --records 250000 1000000 --image-bytes 48
    python benchmarks/data_tools.py --records 3000 6000 --image-bytes 110000

For each size, two generated data sets whose records lie in another order and split, all but a thousand of them the
same. Each tool runs in a process of its own, whose memory beyond its imports is shown: it must not follow the records.
`floor` is what no verification can do without, CRC32C and SHA-256 of the same files, in the same process; the ratio is
of processor time.
"""

import argparse
import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

from imagetrain_trainer.data import dataset, diff, example, shard_index, tfrecord, verify

CLASSES = 10
DIFFERENT = 1000
SHARD_BYTES = 32 * 1024 * 1024
SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}
PIECE_BYTES = 8 * 1024 * 1024


def write_set(folder: pathlib.Path, records: int, image_bytes: int, *, first: int, seed: int) -> None:
    """Write a data set of the images `first` to `first + records` in an order of its own."""
    order = np.random.default_rng(seed).permutation(records) + first
    splits, start = {}, 0
    for split, share in SHARES.items():
        stop = records if split == "test" else start + int(records * share)
        splits[split] = write_split(folder, split, order[start:stop].tolist(), image_bytes)
        start = stop
    image = dataset.ImageFacts(
        encoding="raw",
        channels=1,
        height=1,
        width=image_bytes,
        min_height=1,
        max_height=1,
        min_width=image_bytes,
        max_width=image_bytes,
    )
    _, document = dataset.seal(
        dataset.Dataset(
            name="generated",
            class_names=tuple(str(label) for label in range(CLASSES)),
            image=image,
            splits=splits,
            mean=(0.0,),
            std=(1.0,),
            split_seed=seed,
            split_ratios={},
        )
    )
    (folder / dataset.KEY).write_bytes(document)


def write_split(folder: pathlib.Path, split: str, numbers: list[int], image_bytes: int) -> dataset.Split:
    """Write the shards of a split."""
    (folder / split).mkdir(parents=True)
    per_shard = max(1, SHARD_BYTES // (image_bytes + 200))
    shards = [
        write_shard(folder, f"{split}/shard-{start // per_shard:05}", numbers[start : start + per_shard], image_bytes)
        for start in range(0, len(numbers), per_shard)
    ]
    counts = np.bincount(np.array(numbers) % CLASSES, minlength=CLASSES)
    return dataset.Split(records=len(numbers), class_counts=tuple(counts.tolist()), shards=tuple(shards))


def write_shard(folder: pathlib.Path, name: str, numbers: list[int], image_bytes: int) -> dataset.Shard:
    """Write one shard and its index."""
    frames, entries, offset = [], [], 0
    for number in numbers:
        pixels = number.to_bytes(8, "little") * (image_bytes // 8 + 1)
        record = example.Record(
            pixels[:image_bytes], number % CLASSES, "raw", 1, image_bytes, 1, f"folder/{number:09}.png"
        )
        framed, crc = tfrecord.frame(example.encode_record(record))
        frames.append(framed)
        entries.append((offset, len(framed), record.label, crc))
        offset += len(framed)
    data, index = b"".join(frames), shard_index.encode(np.array(entries, shard_index.ENTRY))
    (folder / f"{name}.tfrecord").write_bytes(data)
    (folder / f"{name}.index").write_bytes(index)
    return dataset.Shard(
        key=f"{name}.tfrecord",
        records=len(numbers),
        size_bytes=len(data),
        crc32c=tfrecord.crc32c(data),
        sha256=hashlib.sha256(data).hexdigest(),
        index_key=f"{name}.index",
        index_size_bytes=len(index),
        index_crc32c=shard_index.checksum(index),
    )


def read_floor(folder: pathlib.Path) -> None:
    """Read every shard once, in the pieces that verification reads, with CRC32C and SHA-256."""
    for path in sorted(folder.rglob("*.tfrecord")):
        crc, sha256 = 0, hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            while piece := file.read(PIECE_BYTES):
                crc = tfrecord.crc32c(piece, crc)
                sha256.update(piece)


def verify_first(folder: pathlib.Path) -> None:
    """Verify a data set."""
    report = verify.verify(str(folder / "a"))
    if not report.is_whole:
        raise AssertionError(report.as_json())


def compare_both(folder: pathlib.Path) -> None:
    """Compare both data sets."""
    records = diff.diff(str(folder / "a"), str(folder / "b")).records
    if records is None or (records.added.count, records.removed.count) != (DIFFERENT, DIFFERENT):
        raise AssertionError(records)


TOOLS: dict[str, Callable[[pathlib.Path], None]] = {"verify": verify_first, "diff": compare_both}


def read_peak_mb() -> float:
    """Return the most memory that this program has had; getrusage counts what ran in the process before it, too."""
    found = re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path("/proc/self/status").read_text())
    if found is None:
        raise AssertionError("no VmHWM in /proc/self/status")
    return int(found[1]) * 1024 / 1e6


def measure(tool: str, folder: pathlib.Path) -> None:
    """Run one tool and print its figures as JSON."""
    before = read_peak_mb()
    started = time.process_time()
    TOOLS[tool](folder)
    seconds = time.process_time() - started
    rss_mb = read_peak_mb() - before
    started = time.process_time()
    read_floor(folder / "a")
    print(json.dumps({"seconds": seconds, "floor": time.process_time() - started, "rss_mb": rss_mb}))


def main() -> None:
    """Generate data sets and measure every tool on each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, nargs="+", default=[250_000, 1_000_000])
    parser.add_argument("--image-bytes", type=int, default=48)
    parser.add_argument("--folder", type=pathlib.Path, help="for the generated data sets")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure[0], pathlib.Path(options.measure[1]))
        return
    for records in options.records:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            folder = pathlib.Path(name)
            write_set(folder / "a", records, options.image_bytes, first=0, seed=0)
            write_set(folder / "b", records, options.image_bytes, first=DIFFERENT, seed=1)
            size_bytes = sum(path.stat().st_size for path in (folder / "a").rglob("*.tfrecord"))
            for tool in TOOLS:
                command = [sys.executable, __file__, "--measure", tool, str(folder)]
                found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
                print(
                    f"{tool:6} {records:>9,} records {size_bytes / 1e6:6.0f} MB: "
                    f"{found['seconds'] / records * 1e6:6.1f} us of CPU a record, "
                    f"{size_bytes / 1e6 / found['seconds']:5.0f} MB per CPU-second, "
                    f"{found['seconds'] / found['floor']:6.1f} x floor, {found['rss_mb']:4.0f} MB of memory"
                )


if __name__ == "__main__":
    main()
