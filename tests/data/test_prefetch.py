"""Reading ahead: in order, within its bytes, whole blocks at a time, and over when it is closed."""

import asyncio
import dataclasses
import os
import shutil
import threading
import time

import numpy as np
import pytest

import cache_folders
import random_records
from imagetrain_trainer import errors
from imagetrain_trainer.data import block_reads, blocks, dataset, disk_cache, prefetch, reader, sampler, shard_index
from imagetrain_trainer.storage import store
from imagetrain_trainer.storage.local import LocalStore

POLL_SECONDS = 20
RECORD_BYTES = 64 * 1024
RECORDS = 1200  # 75 MiB: more than is kept in memory, in ten blocks
BY_BLOCKS = reader.ReaderOptions()


class GatedStore(LocalStore):
    """A real folder whose reads wait for a gate; it notes the ranges that were begun."""

    def __init__(self, folder):
        super().__init__(folder)
        self.gate = threading.Event()
        self.gate.set()
        self.begun = []

    def open_range_reads(self, concurrency):
        reads = super().open_range_reads(concurrency)
        begin = reads.begin

        async def gated(key, start, length, etag):
            if key.endswith(".tfrecord"):
                self.begun.append((key, start, length))
            while not self.gate.is_set():  # noqa: ASYNC110 - the gate belongs to another thread
                await asyncio.sleep(0.002)
            return await begin(key, start, length, etag)

        reads.begin = gated
        return reads


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set of random records in shards of 20 MiB."""
    path = tmp_path_factory.mktemp("large") / "set"
    random_records.write(store.open_store(str(path)), RECORDS, RECORD_BYTES, 20 * 1024 * 1024)
    return path


@pytest.fixture
def gated(folder):
    return GatedStore(folder)


def batches(count, size=8):
    return (np.arange(size * number, size * (number + 1)) for number in range(count))


def wait_until(condition):
    deadline = time.monotonic() + POLL_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("ahead_bytes", [1, 10_000_000, 10**9])
@pytest.mark.parametrize("is_cached", [False, True])
def test_batches_come_in_order_whatever_the_bounds(folder, tmp_path, ahead_bytes, is_cached):
    cache = reader.CacheOptions(folder=tmp_path / "cache", max_bytes=10**9) if is_cached else None
    with reader.DatasetReader(store.open_store(str(folder)), "train", reader.ReaderOptions(cache=cache)) as records:
        plan = sampler.Sampler(records.layout, 50, seed=3)
        steps = range(plan.steps_per_epoch - 3, plan.steps_per_epoch + 4)
        wanted = [plan.batch_records(step) for step in steps]
        for _ in range(2):  # the second time from the cache, where there is one
            with prefetch.Prefetcher(records, wanted, ahead_bytes=ahead_bytes) as ahead:
                taken = list(ahead)
            assert [batch.record_ids.tolist() for batch in taken] == [ids.tolist() for ids in wanted]
            assert [batch.keys for batch in taken] == [[str(number) for number in ids] for ids in wanted]
            wait_until(lambda: cache is None or (now := records.counters.cache).puts + now.refused >= now.misses)
        counters = records.counters.cache
        assert counters is None if cache is None else counters.hits >= counters.misses > 0


def test_a_split_kept_in_memory_comes_in_order(packed):
    with reader.DatasetReader(packed, "train") as records, prefetch.Prefetcher(records, batches(27, 2)) as ahead:
        assert [batch.record_ids.tolist() for batch in ahead] == [ids.tolist() for ids in batches(27, 2)]


def test_an_epoch_reads_every_byte_once_and_in_large_ranges(gated):
    with reader.DatasetReader(gated, "train", BY_BLOCKS) as records:
        plan = sampler.Sampler(records.layout, 64, seed=1)
        steps = map(plan.batch_records, range(plan.steps_per_epoch))
        with prefetch.Prefetcher(records, steps) as ahead:
            assert sum(map(len, ahead)) == RECORDS
        size_bytes = records.dataset.splits["train"].size_bytes
    assert sum(length for _, _, length in gated.begun) == size_bytes
    assert len(gated.begun) <= records.layout.blocks + 4  # a lane may end within a block


def test_two_workers_together_read_little_twice(gated):
    for rank in range(2):
        with reader.DatasetReader(gated, "train", BY_BLOCKS) as records:
            plan = sampler.Sampler(records.layout, 64, seed=1)
            steps = (plan.worker_records(step, rank, 2) for step in range(plan.steps_per_epoch))
            with prefetch.Prefetcher(records, steps) as ahead:
                list(ahead)
    size_bytes = records.dataset.splits["train"].size_bytes
    assert sum(length for _, _, length in gated.begun) < 1.25 * size_bytes


def test_it_never_reads_further_ahead_than_its_bytes(gated):
    with reader.DatasetReader(gated, "train", BY_BLOCKS) as records:
        ids = np.arange(RECORDS).reshape(-1, 8)
        with prefetch.Prefetcher(records, ids, ahead_bytes=8 * 1024 * 1024) as ahead:
            for taken in range(40):
                next(ahead)
                # what is taken, what waits ready, one block in use, and one block past the bound
                allowed = (taken + 4) * 8 * 66_000 + 3 * blocks.BLOCK_BYTES
                assert sum(length for _, _, length in gated.begun) <= allowed


def test_stall_seconds_count_the_consumers_waiting_alone(gated):
    with reader.DatasetReader(gated, "train", BY_BLOCKS) as records:
        gated.gate.clear()
        with prefetch.Prefetcher(records, batches(10)) as ahead:
            threading.Timer(0.2, gated.gate.set).start()
            next(ahead)
            stalled = ahead.stall_seconds
            assert 0.1 < stalled < POLL_SECONDS
            wait_until(lambda: ahead._ready.qsize() == 3)
            next(ahead)
            assert ahead.stall_seconds - stalled < 0.04


def test_an_error_comes_in_its_turn_and_ends_the_iteration(folder, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    objects = store.open_store(str(broken))
    shard = dataset.load_dataset(objects).splits["train"].shards[0]
    entry = shard_index.decode(objects.get(shard.index_key))[20]  # in the third batch of eight
    with (broken / shard.key).open("r+b") as file:
        file.seek(int(entry["offset"]) + 1000)
        file.write(bytes(100))
    with reader.DatasetReader(objects, "train") as records, prefetch.Prefetcher(records, batches(10)) as ahead:
        assert [next(ahead).record_ids[0], next(ahead).record_ids[0]] == [0, 8]
        with pytest.raises(errors.DataCorruptError, match=r"record 20 at offset \d+ \(record id 20 of train\)"):
            next(ahead)
        assert list(ahead) == []


def test_closing_ends_its_threads_and_starts_nothing_more(gated):
    before = threading.active_count()
    with reader.DatasetReader(gated, "train", BY_BLOCKS) as records:
        open_threads = threading.active_count()
        gated.gate.clear()
        ahead = prefetch.Prefetcher(records, batches(100))
        wait_until(lambda: gated.begun)
        ahead.close()
        ahead.close()
        begun = len(gated.begun)
        assert threading.active_count() <= open_threads + 1  # the pool of file reads starts with the first of them
        assert list(ahead) == []
        assert len(gated.begun) == begun
        gated.gate.set()
    wait_until(lambda: threading.active_count() <= before)  # reads of files end by themselves


def test_a_wrong_cache_entry_is_read_again_and_forgotten(folder, tmp_path):
    ids, options = np.arange(40), reader.CacheOptions(folder=tmp_path / "cache", max_bytes=10**9)
    with reader.DatasetReader(store.open_store(str(folder)), "train", reader.ReaderOptions(cache=options)) as records:
        cache = disk_cache.DiskCache(options.folder, options.max_bytes, records.dataset.digest)
        read = block_reads.BlockRead(records.origin, 0)
        read.need(ids, 0.0)
        first = read.take(0)
        wait_until(lambda: records.counters.cache.puts >= 1)
        cell = read._cells[0]
        key = cell.cache_key(records.dataset.splits["train"].shards[0].key)
        cache.discard(key)
        assert cache.put(key, bytes(cell.stop - cell.start))  # a whole entry of wrong bytes
        again = block_reads.BlockRead(records.origin, 0)
        again.need(ids, 0.0)
        assert again.take(0) == first
        assert cache.get(key) is None


def test_a_cache_entry_that_is_cut_while_it_is_open_costs_a_request(folder, tmp_path):
    ids, options = np.arange(40), reader.CacheOptions(folder=tmp_path / "cache", max_bytes=10**9)
    with reader.DatasetReader(store.open_store(str(folder)), "train", reader.ReaderOptions(cache=options)) as records:
        filling = block_reads.BlockRead(records.origin, 0)
        filling.need(ids, 0.0)
        first = [filling.take(number) for number in ids]
        wait_until(lambda: records.counters.cache.puts >= 1)
        cached = block_reads.BlockRead(records.origin, 0)
        cached.need(ids, 0.0)
        assert cached.take(0) == first[0]
        for path in cache_folders.files_of(tmp_path)[0]:
            os.truncate(path, 100)
        assert [cached.take(number) for number in ids] == first


def test_a_reader_may_be_told_what_to_keep_in_memory(folder):
    options = dataclasses.replace(BY_BLOCKS, in_memory_bytes=10**9)
    with reader.DatasetReader(store.open_store(str(folder)), "train", options) as records:
        assert records.is_resident
        assert records.read(np.array([5, RECORDS - 1])).keys == ["5", str(RECORDS - 1)]


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
def test_reading_that_was_tuned_gives_the_same_records(folder, s3_server, s3_bucket):
    remote = store.open_store(f"s3://{s3_bucket}/set/")
    for path in folder.rglob("*"):
        if path.is_file():
            remote.upload_file(path.relative_to(folder).as_posix(), path)
    ids = np.arange(0, RECORDS, 7)
    with (
        reader.DatasetReader(remote, "train", reader.ReaderOptions(tune=True)) as there,
        reader.DatasetReader(store.open_store(str(folder)), "train") as here,
    ):
        assert there.read(ids).payloads == here.read(ids).payloads
