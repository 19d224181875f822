"""What a fetcher asks for first, how much at a time, how it ends, and how it reads a folder."""

import concurrent.futures
import gc
import os
import pathlib
import threading
import time
import warnings

import pytest

import fetches
from imagetrain_trainer import errors
from imagetrain_trainer.storage import concurrency, fetching, store

# -- order, bounds and the end


def test_what_is_needed_first_is_asked_for_first(objects, proxy):
    proxy.set(first_byte_delay_seconds=0.05)
    limits = concurrency.ConcurrencyOptions(initial=1, most=1)
    order = []
    with fetching.Fetcher(objects, fetches.options(limits=limits)) as fetcher:
        first = fetcher.get("a", 0, 10)
        futures = []
        for priority in (5, 3, 4, 1, 2, 3):
            futures.append(fetcher.get("a", 0, 10, priority))
            number = len(futures)
            futures[-1].add_done_callback(lambda _, place=(priority, number): order.append(place))
        concurrent.futures.wait([first, *futures], timeout=30)
    assert order == sorted(order)
    assert len(order) == 6


def test_bytes_under_way_are_bounded(objects, proxy):
    proxy.set(first_byte_delay_seconds=0.1)
    with fetching.Fetcher(objects, fetches.options(max_bytes=3 * fetches.PART)) as fetcher:
        futures = [fetcher.get(*place) for place in fetches.ranges(30)]
        most = 0
        while not all(future.done() for future in futures):
            counters = fetcher.counters
            most = max(most, counters.bytes_under_way)
            assert counters.bytes_under_way == counters.under_way * fetches.PART
            concurrent.futures.wait(futures, timeout=0.01)
        assert most == 3 * fetches.PART
        assert (
            fetcher.get("a", 0, 10 * fetches.PART).result(30) == fetches.DATA["a"][: 10 * fetches.PART]
        )  # larger than all: alone
    assert proxy.counts()["most_open_connections"] <= 8  # some are still being closed; unbounded it is 16


def test_closing_ends_fifty_requests_under_way_at_once(objects, proxy):
    proxy.set(stall_fraction=1, stall_seconds=60)
    limits = concurrency.ConcurrencyOptions(initial=50, most=50)
    before = proxy.counts()["open_connections"]  # the store's own
    fetcher = fetching.Fetcher(objects, fetches.options(limits=limits))
    futures = [fetcher.get(*place) for place in fetches.ranges(80)]
    assert fetches.wait_until(lambda: proxy.counts()["stalls"] == 50)
    started = time.monotonic()
    fetcher.close()
    assert time.monotonic() - started < 1
    assert all(future.cancelled() for future in futures)
    assert fetches.wait_until(lambda: proxy.counts()["open_connections"] <= before)
    fetcher.close()  # again is fine
    with pytest.raises(RuntimeError, match="is closed"):
        fetcher.get("a", 0, 1)


def test_cancelling_a_future_ends_its_request_and_makes_room(objects, proxy):
    proxy.set(stall_fraction=1, stall_seconds=60)
    limits = concurrency.ConcurrencyOptions(initial=2, most=2)
    with fetching.Fetcher(objects, fetches.options(limits=limits)) as fetcher:
        stuck = [fetcher.get(*place) for place in fetches.ranges(4)]
        assert fetches.wait_until(lambda: proxy.counts()["stalls"] == 2)
        proxy.clear()
        assert all(future.cancel() for future in stuck)
        fetches.read_all(fetcher, fetches.ranges(4))
        assert fetches.wait_until(lambda: fetcher.counters.under_way == 0)


def test_many_fetchers_leave_no_thread_and_no_connection(objects, proxy, monkeypatch):
    before = proxy.counts()["open_connections"]  # the store's own
    read_once(objects)  # starts what lives as long as the process: obstore's own threads
    proxy.set(reset_fraction=0.1, stall_fraction=0.05, stall_seconds=1)
    threads, files = threading.active_count(), count_open_files()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(8):
            read_once(objects)
        gc.collect()
    assert [str(warning.message) for warning in caught] == []
    assert threading.active_count() == threads
    assert fetches.wait_until(lambda: count_open_files() <= files)
    assert fetches.wait_until(lambda: proxy.counts()["open_connections"] <= before)


def read_once(objects):
    with fetching.Fetcher(objects, fetches.options()) as fetcher:
        futures = [fetcher.get(*place) for place in fetches.ranges(60)]
        concurrent.futures.wait(futures[:20], timeout=30)


def count_open_files():
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough


# -- folders


@pytest.fixture
def folder(tmp_path):
    for key, data in fetches.DATA.items():
        (tmp_path / key).write_bytes(data)
    return tmp_path


def test_a_folder_reads_as_a_bucket_does(folder):
    with fetching.Fetcher(store.open_store(str(folder)), fetches.options(part_bytes=100_000)) as fetcher:
        fetches.read_all(fetcher, fetches.ranges(200))
        assert fetcher.get("a", 0, fetches.SIZE).result(10) == fetches.DATA["a"]
        assert fetcher.counters.hedges == 0
        with pytest.raises(errors.ObjectNotFoundError, match="none does not exist"):
            fetcher.get("none", 0, 1).result(10)
        with pytest.raises(
            errors.DataCorruptError, match=f"must hold bytes {fetches.SIZE - 5} to {fetches.SIZE + 4}, but it is short"
        ):
            fetcher.get("a", fetches.SIZE - 5, 10).result(10)


def test_a_file_replaced_or_changed_during_the_run_is_told(folder):
    def rename_another_over(path: pathlib.Path):
        path.with_suffix(".new").write_bytes(fetches.DATA["a"])
        path.with_suffix(".new").replace(path)

    def write_into(path: pathlib.Path):
        with path.open("r+b") as file:
            file.write(b"x")

    for change in (rename_another_over, write_into):
        (folder / "a").write_bytes(fetches.DATA["a"])
        with fetching.Fetcher(store.open_store(str(folder))) as fetcher:
            fetcher.get("a", 0, 10).result(10)
            change(folder / "a")
            with pytest.raises(errors.DataCorruptError, match=r"a must stay as it is .* replaced during the run"):
                fetcher.get("a", 0, 10).result(10)


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (1, [1]),
        (100, [100]),
        (149, [149]),  # a little more than a part stays whole: its bytes need not be copied together
        (151, [75, 76]),
        (200, [100, 100]),
        (1000, [100] * 10),
        (1001, [100] * 9 + [101]),
    ],
)
def test_a_range_is_cut_evenly_into_parts_of_about_their_size(length, expected):
    parts = fetching.plan_parts("a", 7, length, 100)
    assert sorted(part.length for part in parts) == expected
    assert [part.start for part in parts] == [7 + sum(p.length for p in parts[:number]) for number in range(len(parts))]
