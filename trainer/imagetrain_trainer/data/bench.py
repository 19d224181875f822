"""What each stage of reading costs, on the user's own data: GET, CRC, parse, and the disk cache. No TensorFlow here.

GET runs against the data set's store, as many requests at a time as training has. The other stages run over a sample,
a prefix of the first shard, for the packer mixes the records of a split: its records are as good as any.
"""

import concurrent.futures
import dataclasses
import hashlib
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np

from imagetrain_trainer import errors
from imagetrain_trainer.data import (
    dataset,
    disk_cache,
    hashing,
    reader,
    record_batch,
    shard_index,
    tfrecord,
)
from imagetrain_trainer.data.streams import Stream
from imagetrain_trainer.storage import fetching, store

SAMPLE_BYTES = 32 * 1024 * 1024
"""Bytes of the sample, at most, unless one record has more."""

_REQUEST_BYTES = 8 * 1024 * 1024  # as a block has
_AHEAD_BYTES = 64 * 1024 * 1024  # as training reads ahead by default
_PIECE_BYTES = 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What one stage did while it was measured.

    Attributes:
        name: "get", "crc", "parse", "cache write", "cache read", "batch", "decode", "augment", "copy".
        images: that went through it.
        size_bytes: stored bytes of these images, or what else the stage moved.
        seconds: of wall time.
        cpu_seconds: of processor time, all threads of this process.
    """

    name: str
    images: float
    size_bytes: float
    seconds: float
    cpu_seconds: float

    @property
    def images_per_second(self) -> float:
        """Of wall time."""
        return self.images / max(self.seconds, 1e-9)

    @property
    def cpu_seconds_per_image(self) -> float:
        """Processor time of one image."""
        return self.cpu_seconds / max(self.images, 1e-9)

    @property
    def megabytes_per_second(self) -> float:
        """Of wall time; 10**6 bytes."""
        return self.size_bytes / max(self.seconds, 1e-9) / 1e6

    @property
    def megabytes_per_cpu_second(self) -> float:
        """Of processor time; 10**6 bytes."""
        return self.size_bytes / max(self.cpu_seconds, 1e-9) / 1e6

    def less(self, part: "Stage", name: str) -> "Stage":
        """Return what this does beyond a part of it, for the same images; never less than nothing."""
        share = self.images / max(part.images, 1e-9)
        return Stage(
            name=name,
            images=self.images,
            size_bytes=self.size_bytes,
            seconds=max(0.0, self.seconds - share * part.seconds),
            cpu_seconds=max(0.0, self.cpu_seconds - share * part.cpu_seconds),
        )


def take_sample(objects: store.ObjectStore, split: str, folder: pathlib.Path) -> store.ObjectStore:
    """Copy the first records of a split to a data set of its own in a folder.

    Raises:
        errors.ConfigError: the split has no records.
        errors.StorageError: the data set cannot be read; errors.DataCorruptError: it is damaged.
    """
    whole = dataset.load_dataset(objects)
    shards = [shard for shard in whole.splits[split].shards if shard.records]
    if not shards:
        raise errors.ConfigError(f"{objects.uri} must have images in its {split} split, and has none. Name another.")
    shard = shards[0]
    entries = shard_index.decode(objects.get(shard.index_key))
    ends = entries["offset"] + entries["length"].astype(np.uint64)
    records = max(1, int(np.searchsorted(ends, SAMPLE_BYTES, side="right")))
    entries, size_bytes = entries[:records], int(ends[records - 1])
    data = objects.get_ranges(shard.key, [0], [size_bytes])[0]
    index = shard_index.encode(entries)
    part = dataset.Shard(
        key=shard.key,
        records=records,
        size_bytes=size_bytes,
        crc32c=tfrecord.crc32c(data),
        sha256=hashlib.sha256(data).hexdigest(),
        index_key=shard.index_key,
        index_size_bytes=len(index),
        index_crc32c=shard_index.checksum(index),
    )
    counts = np.bincount(entries["label"], minlength=len(whole.class_names))
    none = dataset.Split(records=0, class_counts=(0,) * len(whole.class_names), shards=())
    only = dataset.Split(records=records, class_counts=tuple(counts.tolist()), shards=(part,))
    sealed = dataset.seal(
        dataclasses.replace(whole, splits={name: only if name == "train" else none for name in dataset.SPLITS})
    )
    sample = store.open_store(str(folder))
    sample.put(part.key, bytes(data))
    sample.put(part.index_key, index)
    sample.put(dataset.KEY, sealed[1])
    return sample


def measure_get(objects: store.ObjectStore, split: str, seconds: float, options: reader.ReaderOptions) -> Stage:
    """Fetch ranges of the split, as long as a block each, in random order, until the time or the split is over."""
    described = dataset.load_dataset(objects).splits[split]
    pieces = [
        (shard.key, start, min(_REQUEST_BYTES, shard.size_bytes - start))
        for shard in described.shards
        for start in range(0, shard.size_bytes, _REQUEST_BYTES)
    ]
    order = np.argsort(hashing.hash_u64(0, Stream.BENCH_PIECES, np.arange(len(pieces)))).tolist()
    with fetching.Fetcher(objects, options.fetch) as fetcher:
        waiting = iter(order)
        under_way: list[concurrent.futures.Future[memoryview]] = []
        size_bytes, started, cpu_started = 0, time.perf_counter(), time.process_time()
        while True:
            while len(under_way) < _AHEAD_BYTES // _REQUEST_BYTES and (number := next(waiting, None)) is not None:
                key, start, length = pieces[number]
                under_way.append(fetcher.get(key, start, length))
            if not under_way:
                break
            size_bytes += len(under_way.pop(0).result())
            if time.perf_counter() - started >= seconds:
                break
        spent, cpu_spent = time.perf_counter() - started, time.process_time() - cpu_started
        for future in under_way:
            future.cancel()
    images = size_bytes * described.records / max(1, described.size_bytes)
    return Stage(name="get", images=images, size_bytes=size_bytes, seconds=spent, cpu_seconds=cpu_spent)


def measure_check_and_parse(sample: store.ObjectStore, seconds: float) -> tuple[Stage, Stage]:
    """Check the CRCs of the sample's records again and again, and parse them."""
    shard = dataset.load_dataset(sample).splits["train"].shards[0]
    data = memoryview(sample.get(shard.key))
    entries = shard_index.decode(sample.get(shard.index_key)).tolist()
    frames = [(data[offset : offset + length], label, crc) for offset, length, label, crc in entries]

    def check() -> None:
        for frame, _, _ in frames:
            tfrecord.masked_crc32c(frame[tfrecord.HEADER_BYTES : -tfrecord.FOOTER_BYTES])

    def read() -> None:
        for frame, label, crc in frames:
            record_batch.open_frame(frame, label, crc)

    crc = _repeat("crc", check, len(frames), len(data), seconds)
    both = _repeat("parse", read, len(frames), len(data), seconds)
    return crc, both.less(crc, "parse")


def measure_cache(sample: store.ObjectStore, folder: pathlib.Path, seconds: float) -> tuple[Stage, Stage]:
    """Put the sample's pieces into a disk cache in a folder, and get them again; nothing stays in the folder."""
    shard = dataset.load_dataset(sample).splits["train"].shards[0]
    data = sample.get(shard.key)
    pieces = [(f"{start}", data[start : start + _PIECE_BYTES]) for start in range(0, len(data), _PIECE_BYTES)]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        cache = disk_cache.DiskCache(place, 2 * len(data) + (16 << 20), "bench")

        def write() -> None:
            for key, piece in pieces:
                cache.discard(key)
                cache.put(key, piece)

        def read() -> None:
            for key, _ in pieces:  # as the reader does: what it checks is in other stages
                entry = cache.open(key)
                if entry is not None:  # the disk may be in trouble, which the cache tells
                    entry.read(0, entry.size_bytes)

        written = _repeat("cache write", write, shard.records, len(data), seconds)
        return written, _repeat("cache read", read, shard.records, len(data), seconds)


def _repeat(name: str, work: Callable[[], object], images: int, size_bytes: int, seconds: float) -> Stage:
    """Do work once to warm up and then until the time is over."""
    work()
    rounds, started, cpu_started = 0, time.perf_counter(), time.process_time()
    while not rounds or time.perf_counter() - started < seconds:
        work()
        rounds += 1
    return Stage(
        name=name,
        images=rounds * images,
        size_bytes=rounds * size_bytes,
        seconds=time.perf_counter() - started,
        cpu_seconds=time.process_time() - cpu_started,
    )


def measure_stream(name: str, batches: Iterator[tuple[int, int]], seconds: float, warm_up: int = 3) -> Stage:
    """Consume batches, each told as (images, bytes): some to warm up, then until the time or the batches are over."""
    for _ in range(warm_up):
        next(batches, None)
    images, size_bytes, started, cpu_started = 0, 0, time.perf_counter(), time.process_time()
    for count, length in batches:
        images, size_bytes = images + count, size_bytes + length
        if time.perf_counter() - started >= seconds:
            break
    return Stage(
        name=name,
        images=images,
        size_bytes=size_bytes,
        seconds=time.perf_counter() - started,
        cpu_seconds=time.process_time() - cpu_started,
    )
