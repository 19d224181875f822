"""Writes in the background: bounded, in order, and their failures are raised where results are asked for."""

import threading

import pytest

from imagetrain_trainer.data import pack_uploads

DEADLINE_SECONDS = 30


@pytest.fixture
def uploads():
    opened = pack_uploads.Uploads(threads=2)
    yield opened
    opened.close()


def test_results_come_in_the_order_of_their_starts(uploads):
    first_may_end = threading.Event()

    def wait():
        assert first_may_end.wait(DEADLINE_SECONDS)
        return "first"

    assert list(uploads.submit(wait)) == []
    assert list(uploads.submit(lambda: "second")) == []
    assert list(uploads.collect()) == []  # the second is done, but not before the first
    first_may_end.set()
    assert list(uploads.drain()) == ["first", "second"]


def test_a_third_write_waits_for_the_first(uploads):
    """However slow the store, no more than two shards wait in memory."""
    running, most, lock = 0, 0, threading.Lock()

    def write():
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.002)
        with lock:
            running -= 1
        return 1

    results = 0
    for number in range(30):
        results += sum(uploads.submit(write))
        assert number + 1 - results <= 2
    assert results + sum(uploads.drain()) == 30
    assert most <= 2


def test_a_failure_is_raised_later(uploads):
    def fail():
        raise ValueError("full")

    with pytest.raises(ValueError, match="full"):
        list(uploads.submit(fail)) + list(uploads.drain())


def test_a_closed_queue_drops_what_has_not_begun():
    opened = pack_uploads.Uploads(threads=1)
    may_end = threading.Event()
    list(opened.submit(lambda: may_end.wait(DEADLINE_SECONDS)))
    opened.close()
    may_end.set()
