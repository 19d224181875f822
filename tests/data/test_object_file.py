"""Reading an object as a file: the bytes, and which requests are made ahead of them."""

import io
import random
import threading

import pytest

from imagetrain_trainer.data import object_file

WINDOW = object_file.WINDOW_BYTES
DATA = random.Random(1).randbytes(4 * WINDOW + 12_345)


class Store:
    """Bytes that count what is asked for."""

    def __init__(self):
        self.asked, self.lock = [], threading.Lock()

    def read_range(self, start, length):
        with self.lock:
            self.asked.append(start // WINDOW)
        assert start + length <= len(DATA)
        return DATA[start : start + length]


def test_the_whole_file_is_read_with_one_request_a_window():
    store = Store()
    with io.BufferedReader(object_file.ObjectFile(store.read_range, len(DATA)), 1 << 20) as file:
        assert file.read(WINDOW - 3) + file.read(10) + file.read() == DATA
    assert sorted(store.asked) == [0, 1, 2, 3, 4]


def test_a_reader_that_jumps_asks_for_nothing_ahead():
    store = Store()
    with io.BufferedReader(object_file.ObjectFile(store.read_range, len(DATA)), 4096) as file:
        for window in (3, 1, 4):
            file.seek(window * WINDOW + 5)
            assert file.read(7) == DATA[window * WINDOW + 5 :][:7]
        assert store.asked == [3, 1, 4]
        file.seek(len(DATA))
        assert file.read(5) == b""
        file.seek(-2, io.SEEK_END)
        assert file.read() == DATA[-2:]


def test_what_the_store_raises_reading_raises():
    def fail(start, length):
        raise LookupError(start)

    with (
        io.BufferedReader(object_file.ObjectFile(fail, len(DATA)), 4096) as file,
        pytest.raises(LookupError),
    ):
        file.read(5)


def test_an_empty_object_takes_no_request():
    store = Store()
    with io.BufferedReader(object_file.ObjectFile(store.read_range, 0), 4096) as file:
        assert file.read() == b""
    assert store.asked == []
