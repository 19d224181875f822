"""Readers of one node that share a cache fetch each cell once, and wait for no one for long."""

import concurrent.futures
import contextlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

import cache_readers
import fault_proxy
import random_records
import waiting
from imagetrain_trainer import errors
from imagetrain_trainer.data import block_reads, cell_cache, disk_cache, reader
from imagetrain_trainer.storage import store

RECORDS, RECORD_BYTES = 700, 64 * 1024  # 44 MiB, in six blocks
IDS = np.arange(10)  # in one cell


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("shared") / "set"
    random_records.write(store.open_store(str(path)), RECORDS, RECORD_BYTES, 20 * 1024 * 1024)
    return path


def read_at_once(folder, cache, ranks):
    """Let one process a rank read an epoch; return what each got from the store, and how many records it read."""
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, cache_readers.__file__, str(folder), str(cache), str(rank), str(world_size)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for rank, world_size in ranks
        ]
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        results = [process.communicate(timeout=100)[0].split() for process in processes]
    return [int(size_bytes) for size_bytes, _ in results], [int(count) for _, count in results]


def test_two_runs_on_one_node_together_fetch_what_one_fetches(folder, tmp_path):
    (alone,), _ = read_at_once(folder, tmp_path / "alone", [(0, 1)])
    fetched, counts = read_at_once(folder, tmp_path / "shared", [(0, 1), (0, 1)])
    assert counts == [RECORDS, RECORDS]
    assert alone >= RECORDS * RECORD_BYTES
    assert sum(fetched) <= 1.1 * alone
    assert list((tmp_path / "shared" / "v1" / "claims").iterdir()) == []


def test_workers_that_share_blocks_together_fetch_what_one_fetches(folder, tmp_path):
    (alone,), _ = read_at_once(folder, tmp_path / "alone", [(0, 1)])
    fetched, counts = read_at_once(folder, tmp_path / "shared", [(rank, 8) for rank in range(8)])
    assert sum(counts) == RECORDS
    assert sum(fetched) <= 1.1 * alone


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
def test_what_a_bad_server_costs_is_fetched_again_by_one_of_them(s3_server, s3_bucket, tmp_path, monkeypatch):
    """While a reader asks again for what it has claimed, the others go on waiting."""
    uri = f"s3://{s3_bucket}/set/"
    random_records.write(store.open_store(uri), RECORDS, RECORD_BYTES, 20 * 1024 * 1024)
    with fault_proxy.running(s3_server) as proxy:
        for name, value in proxy.server.environment().items():
            monkeypatch.setenv(name, value)
        (alone,), _ = read_at_once(uri, tmp_path / "alone", [(0, 1)])
        before = proxy.counts()
        shares = ("body_stall", "slow_down", "error", "reset", "truncate", "flip")
        proxy.set(seed=5, stall_seconds=1.0, **dict.fromkeys((f"{share}_fraction" for share in shares), 0.12))
        fetched, counts = read_at_once(uri, tmp_path / "shared", [(0, 1)] * 3)
        met = {name: count - before[name] for name, count in proxy.counts().items()}
    assert counts == [RECORDS] * 3
    assert min(met[f"{name}s"] for name in ("slow_down", "error", "reset", "truncation", "flip")) >= 1
    assert sum(fetched) <= 1.2 * alone  # a record that came damaged is read again
    assert list((tmp_path / "shared" / "v1" / "claims").iterdir()) == []


@pytest.fixture
def shared(folder, tmp_path):
    """A reader with a cache, another's view of that cache, the key of the first cell and what belongs into it."""
    folder = shutil.copytree(folder, tmp_path / "set")
    options = reader.ReaderOptions(
        cache=reader.CacheOptions(folder=tmp_path / "cache", max_bytes=10**9), in_memory_bytes=0
    )
    with reader.DatasetReader(store.open_store(str(folder)), "train", options) as records:
        other = disk_cache.DiskCache(tmp_path / "cache", 10**9, records.dataset.digest)
        shard = records.dataset.splits["train"].shards[0]
        entries = records.origin.indexes.entries(0)[slice(*records.layout.block_range(0))]
        last = entries[block_reads.cut(entries, cell_cache.CELL_BYTES)[1] - 1]
        stop = int(last["offset"]) + int(last["length"])
        content = (folder / shard.key).read_bytes()[:stop]
        yield records, other, f"{shard.key}/0-{stop}", content


@pytest.fixture
def patient(monkeypatch):
    monkeypatch.setattr(cell_cache, "CLAIM_SECONDS", 60.0)


def begin(records):
    pool = concurrent.futures.ThreadPoolExecutor(1)
    reading = pool.submit(records.read, IDS)
    pool.shutdown(wait=False)
    waiting.until(lambda: records.counters.cache.misses >= 1)
    return reading


@pytest.mark.usefixtures("patient")
def test_a_cell_that_another_fetches_is_taken_from_the_cache(shared):
    records, other, key, content = shared
    before = records.counters.requests.bytes
    with other.claim(key):
        reading = begin(records)
        assert other.put(key, content)
    assert reading.result(timeout=60).keys == [str(number) for number in IDS]
    assert records.counters.requests.bytes == before


@pytest.mark.usefixtures("patient")
def test_a_cell_whose_fetcher_ended_without_it_is_fetched(shared):
    records, other, key, _ = shared
    with other.claim(key):
        reading = begin(records)
        assert not reading.done()
    assert reading.result(timeout=60).keys == [str(number) for number in IDS]


def test_no_cell_is_waited_for_longer_than_its_time(shared, monkeypatch):
    records, other, key, _ = shared
    monkeypatch.setattr(cell_cache, "CLAIM_SECONDS", 0.1)
    with other.claim(key):
        assert records.read(IDS).keys == [str(number) for number in IDS]


def test_what_is_kept_is_claimed_no_longer(shared):
    records, other, key, _ = shared
    records.read(IDS)
    waiting.until(lambda: other.holds(key))
    waiting.until(lambda: is_free(other, key))


def test_what_cannot_be_read_is_claimed_no_longer(shared):
    records, other, key, _ = shared
    place = store.open_store(records.origin.objects.uri)
    place.delete([records.dataset.splits["train"].shards[0].key])
    with pytest.raises(errors.ObjectNotFoundError):
        records.read(IDS)
    waiting.until(lambda: is_free(other, key))


def is_free(cache, key):
    claim = cache.claim(key)
    if claim is not None:
        claim.release()
    return claim is not None
