"""Reading ahead: in order, within its bytes, and over when it is closed."""

import threading
import time

import numpy as np
import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.data import prefetch, reader

POLL_SECONDS = 10


class GatedReader:
    """Stands for a slow store: reads wait for the gate, and it counts those begun. Ten bytes a record."""

    def __init__(self, *, is_open=True, failing_at=None):
        self.gate = threading.Event()
        self.begun = []
        self._failing_at = failing_at
        if is_open:
            self.gate.set()

    def size_bytes(self, ids):
        return 10 * len(ids)

    def read(self, ids):
        self.begun.append(ids.tolist())
        assert self.gate.wait(POLL_SECONDS)
        if self._failing_at in ids:
            raise errors.StorageUnavailableError("s3://data/x did not answer")
        return ids.tolist()


def batches(count, size=2):
    return (np.arange(size * number, size * (number + 1)) for number in range(count))


def wait_until(condition):
    deadline = time.monotonic() + POLL_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("concurrent_reads", [1, 4])
@pytest.mark.parametrize("max_bytes", [1, 50, 10_000])
def test_batches_come_in_order_whatever_the_bounds(concurrent_reads, max_bytes):
    with prefetch.Prefetcher(
        GatedReader(), batches(20), max_bytes=max_bytes, concurrent_reads=concurrent_reads
    ) as ahead:
        assert list(ahead) == [ids.tolist() for ids in batches(20)]


def test_real_records_come_in_order(packed):
    with reader.DatasetReader(packed, "train") as records, prefetch.Prefetcher(records, batches(27)) as ahead:
        assert [batch.record_ids.tolist() for batch in ahead] == [ids.tolist() for ids in batches(27)]


def test_it_never_reads_further_ahead_than_its_bytes():
    source = GatedReader()
    with prefetch.Prefetcher(source, batches(100), max_bytes=60, concurrent_reads=8) as ahead:  # three batches of 20
        wait_until(lambda: len(source.begun) == 3)
        for taken in range(1, 98):
            next(ahead)
            wait_until(lambda expected=taken + 3: len(source.begun) == expected)


def test_it_never_reads_further_ahead_than_its_batches():
    source = GatedReader()
    with prefetch.Prefetcher(source, batches(100), max_batches=3, concurrent_reads=8) as ahead:
        wait_until(lambda: len(source.begun) == 3)
        next(ahead)
        wait_until(lambda: len(source.begun) == 4)
        time.sleep(0.02)
        assert len(source.begun) == 4


def test_a_batch_larger_than_the_bound_is_read_alone():
    source = GatedReader(is_open=False)
    with prefetch.Prefetcher(source, batches(5), max_bytes=1) as ahead:
        wait_until(lambda: len(source.begun) == 1)
        source.gate.set()
        assert len(list(ahead)) == 5


def test_stall_seconds_count_the_consumers_waiting_alone():
    source = GatedReader(is_open=False)
    with prefetch.Prefetcher(source, batches(3)) as ahead:
        threading.Timer(0.2, source.gate.set).start()
        next(ahead)
        stalled = ahead.stall_seconds
        assert 0.1 < stalled < POLL_SECONDS
        wait_until(lambda: len(source.begun) == 3)
        time.sleep(0.05)
        next(ahead)
        assert ahead.stall_seconds - stalled < 0.04


def test_an_error_comes_in_its_turn_and_ends_the_iteration():
    with prefetch.Prefetcher(GatedReader(failing_at=5), batches(10)) as ahead:
        assert [next(ahead), next(ahead)] == [[0, 1], [2, 3]]
        with pytest.raises(errors.StorageUnavailableError):
            next(ahead)
        assert list(ahead) == []


def test_closing_ends_its_threads_and_starts_nothing_more():
    source = GatedReader()
    before = threading.active_count()
    ahead = prefetch.Prefetcher(source, batches(10**9), max_bytes=100)
    next(ahead)
    ahead.close()
    ahead.close()
    begun = len(source.begun)
    assert threading.active_count() == before
    assert list(ahead) == []
    assert len(source.begun) == begun


def test_closing_releases_a_consumer_in_another_thread():
    source = GatedReader(is_open=False)
    ahead = prefetch.Prefetcher(source, batches(10**9), concurrent_reads=1)
    taken = []
    consumer = threading.Thread(target=lambda: taken.extend(ahead))
    consumer.start()
    wait_until(lambda: len(source.begun) == 1)
    threading.Timer(0.05, source.gate.set).start()
    ahead.close()
    consumer.join(POLL_SECONDS)
    assert not consumer.is_alive()


def test_no_batches_is_no_iteration():
    with prefetch.Prefetcher(GatedReader(), []) as ahead:
        assert list(ahead) == []
        assert ahead.stall_seconds == 0
