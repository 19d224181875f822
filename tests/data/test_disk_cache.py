"""The disk cache is never wrong, never too large, and no trouble with the disk reaches its user."""

import logging
import os
import pathlib
import random
import tempfile
import time

import hypothesis
import pytest
from hypothesis import stateful, strategies

import cache_folders
import cache_processes
from imagetrain_trainer.data import disk_cache


def count_open_files():
    return len(list(pathlib.Path("/proc/self/fd").iterdir()))


def test_what_was_put_is_found_by_any_later_cache_of_the_scope(tmp_path):
    cache = cache_folders.open_cache(tmp_path / "cache")
    assert cache.get("train-0/0-5") is None
    assert cache.put("train-0/0-5", b"bytes")
    assert cache.put("empty", b"")
    assert cache.get("train-0/0-5") == b"bytes"
    later = cache_folders.open_cache(tmp_path / "cache")
    assert (later.get("train-0/0-5"), later.get("empty"), later.get("train-0/0-6")) == (b"bytes", b"", None)
    assert later.counters == disk_cache.CacheCounters(hits=2, misses=1, hit_bytes=5)
    assert cache.counters == disk_cache.CacheCounters(hits=1, misses=1, hit_bytes=5, puts=2, put_bytes=5)
    assert cache.used_bytes == later.used_bytes == cache_folders.disk_bytes(tmp_path)


def test_an_open_entry_is_read_in_parts_and_outlives_its_eviction(tmp_path):
    cache = cache_folders.open_cache(tmp_path / "cache")
    assert cache.open("k") is None
    cache.put("k", b"0123456789")
    entry = cache.open("k")
    cache.discard("k")
    assert cache.open("k") is None
    assert (entry.size_bytes, bytes(entry.read(0, 4)), bytes(entry.read(7, 3))) == (10, b"0123", b"789")
    assert cache.counters == disk_cache.CacheCounters(hits=1, misses=2, hit_bytes=10, puts=1, put_bytes=10)


def test_an_open_entry_closes_its_file_with_its_last_reference(tmp_path):
    cache = cache_folders.open_cache(tmp_path / "cache")
    cache.put("k", b"0123456789")
    before = count_open_files()
    entries = [cache.open("k") for _ in range(5)]
    assert count_open_files() == before + 5
    del entries
    assert count_open_files() == before


def test_what_cannot_be_an_entry_is_not_opened_and_goes(tmp_path):
    cache = cache_folders.open_cache(tmp_path / "cache")
    cache.put("k", b"0123456789")
    ((path,), _) = cache_folders.files_of(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])  # its head tells another size
    before = count_open_files()
    assert cache.open("k") is None
    assert not path.exists()
    assert cache.counters.damaged == 1
    assert count_open_files() == before


def test_data_sets_share_a_folder_and_see_only_their_own(tmp_path):
    one, other = cache_folders.open_cache(tmp_path), cache_folders.open_cache(tmp_path, scope="sha256:two")
    one.put("a", b"1")
    assert other.get("a") is None
    other.put("a", b"2")
    assert (one.get("a"), other.get("a")) == (b"1", b"2")
    assert one.used_bytes == other.used_bytes == 2 * 4096


def test_the_folder_is_open_to_its_owner_alone(tmp_path):
    cache = cache_folders.open_cache(tmp_path / "cache")
    cache.put("a", b"1")
    for path in (tmp_path / "cache").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_the_least_recently_used_entries_go_first(tmp_path):
    cache = cache_folders.open_cache(tmp_path, 20 * 4096, touch_seconds=0)
    for number in range(20):
        cache.put(f"{number}", b"x")
    for path in cache_folders.files_of(tmp_path)[0]:
        os.utime(path, (1, 1))  # all long ago
    used = [number for number in range(20) if number % 3 == 0]
    assert all(cache.get(f"{number}") == b"x" for number in used)
    cache.put("new", b"x")
    assert cache.counters.evictions == 2  # down to 18 blocks, before the new one's
    assert cache.used_bytes == cache_folders.disk_bytes(tmp_path) == 19 * 4096
    assert cache.get("new") == b"x"
    assert all(cache.get(f"{number}") == b"x" for number in used)


def test_the_last_use_is_written_at_most_once_in_a_while(tmp_path):
    cache = cache_folders.open_cache(tmp_path, touch_seconds=1000)
    cache.put("a", b"x")
    (path,) = cache_folders.files_of(tmp_path)[0]
    soon, late = time.time() - 900, time.time() - 1100
    for stamp, is_kept in ((soon, True), (late, False)):
        os.utime(path, (stamp, stamp))
        cache.get("a")
        assert (path.stat().st_mtime == pytest.approx(stamp, abs=1e-3)) is is_kept


def test_the_limit_holds_after_every_put(tmp_path):
    randomness = random.Random(3)
    evictions = 0
    for epoch in range(20):
        cache = cache_folders.open_cache(tmp_path, 100_000, f"{epoch}")  # the one before is not read any more
        for number in range(20):
            cache.put(f"{number}", randomness.randbytes(randomness.randrange(8_000)))
            assert cache_folders.disk_bytes(tmp_path) == cache.used_bytes <= 100_000
        assert cache.counters.puts >= 12
        evictions += cache.counters.evictions
    assert evictions > 150


def test_a_set_that_is_being_read_keeps_what_it_has(tmp_path):
    cache = cache_folders.open_cache(tmp_path, 10 * 4096)
    for number in range(20):
        cache.put(f"{number}", b"x")
    assert [cache.get(f"{number}") is not None for number in range(20)] == [True] * 10 + [False] * 10
    assert (cache.counters.puts, cache.counters.refused, cache.counters.evictions) == (10, 10, 0)


def test_sets_that_are_read_at_the_same_time_come_to_equal_parts(tmp_path):
    first, second = (
        cache_folders.open_cache(tmp_path, 40 * 4096, "one"),
        cache_folders.open_cache(tmp_path, 40 * 4096, "two"),
    )
    for number in range(60):
        first.put(f"{number}", b"x")
    for number in range(60):
        second.put(f"{number}", b"x")
    held = [sum(cache.get(f"{number}") is not None for number in range(60)) for cache in (first, second)]
    assert sum(held) >= 36
    assert min(held) >= 17


def test_a_lower_limit_than_the_run_before_is_kept_from_the_start(tmp_path):
    cache = cache_folders.open_cache(tmp_path, 20 * 4096)
    for number in range(20):
        cache.put(f"{number}", b"x")
    smaller = cache_folders.open_cache(tmp_path, 5 * 4096)
    assert cache_folders.disk_bytes(tmp_path) == smaller.used_bytes <= 5 * 4096
    assert smaller.counters.evictions >= 15


def test_what_is_larger_than_the_cache_is_not_kept_and_displaces_nothing(tmp_path):
    cache = cache_folders.open_cache(tmp_path, 50_000)
    cache.put("small", b"x")
    assert not cache.put("large", bytes(50_000))
    assert cache.get("small") == b"x"
    assert cache.counters.refused == 1


def test_a_changed_byte_anywhere_is_a_miss_and_the_entry_is_gone(tmp_path):
    cache = cache_folders.open_cache(tmp_path)
    data = random.Random(1).randbytes(300)
    cache.put("key", data)
    (path,) = cache_folders.files_of(tmp_path)[0]
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        assert cache.get("key") is None
        assert not path.exists()
    assert cache.counters.damaged == len(whole)


@pytest.mark.parametrize(
    "change", [lambda data: data[:-1], lambda data: data[:20], lambda data: b"", lambda d: d + b"\0"]
)
def test_a_torn_entry_is_a_miss_and_gone(tmp_path, change):
    cache = cache_folders.open_cache(tmp_path)
    cache.put("key", b"0123456789" * 1000)
    (path,) = cache_folders.files_of(tmp_path)[0]
    path.write_bytes(change(path.read_bytes()))
    assert cache.get("key") is None
    assert not path.exists()
    cache.put("key", b"again")
    assert cache.get("key") == b"again"


def test_a_right_entry_in_another_ones_place_is_a_miss(tmp_path):
    cache = cache_folders.open_cache(tmp_path)
    cache.put("a", b"1")
    (first,) = cache_folders.files_of(tmp_path)[0]
    cache.put("b", b"2")
    (second,) = set(cache_folders.files_of(tmp_path)[0]) - {first}
    second.rename(first)
    assert cache.get("a") is None
    assert cache.get("b") is None


def test_a_negative_limit_is_an_error_and_zero_keeps_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"^max_bytes must be at least 0, got -1\.$"):
        cache_folders.open_cache(tmp_path, -1)
    cache = cache_folders.open_cache(tmp_path, 0)
    assert not cache.put("a", b"")
    assert cache.get("a") is None


def test_a_file_in_the_folders_place_turns_the_cache_off_with_one_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("not a folder")
    with caplog.at_level(logging.WARNING):
        cache = cache_folders.open_cache(tmp_path / "file")
        assert not cache.put("a", b"1")
        assert cache.get("a") is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert not cache.is_writable


def test_what_proved_wrong_can_be_discarded(tmp_path):
    cache = cache_folders.open_cache(tmp_path)
    cache.put("a", b"right by its CRC, and not what the index says")
    cache.discard("a")
    cache.discard("never there")
    assert cache.get("a") is None
    assert cache.used_bytes == cache_folders.disk_bytes(tmp_path) == 0


def test_a_writer_may_be_killed_at_any_line(tmp_path):
    lines, _ = cache_folders.run("kill-at-every-line", tmp_path / "cache", 200_000)
    assert int(lines) > 150


def test_writers_may_be_killed_at_a_hundred_random_moments(tmp_path):
    cache_folders.run("kill-at-random", tmp_path / "cache", 600_000, 100)


def test_processes_that_share_a_small_cache_keep_its_limit(tmp_path):
    limit = 1_000_000
    processes = [cache_folders.start("use", tmp_path, limit, seed, 4) for seed in range(4)]
    largest = 0
    while any(process.poll() is None for process in processes):
        entries, partial = cache_processes.entry_sizes(tmp_path)
        largest = max(largest, entries + partial)
    for process in processes:
        _, err = process.communicate()
        assert process.returncode == 0, err
    # A file that moves to its place meanwhile is seen twice: one a process.
    assert 0.5 * limit < largest <= limit + 4 * cache_processes.LARGEST
    assert cache_folders.disk_bytes(tmp_path) <= limit
    cache_processes.check(str(tmp_path), limit, 200)


class TwoCaches(stateful.RuleBasedStateMachine):
    """Two caches of a folder beside a dictionary: what they find is what was put, and the limit holds."""

    LIMIT = 10 * 4096
    keys = strategies.sampled_from([f"{number}" for number in range(8)])
    caches = strategies.sampled_from([0, 1])

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.model = {}
        self.open = [self.reopened(0), self.reopened(1)]

    def reopened(self, number):
        return cache_folders.open_cache(self.folder.name, self.LIMIT, f"{number}", touch_seconds=0)

    @stateful.rule(number=caches, key=keys, size=strategies.integers(0, 15_000))
    def put(self, number, key, size):
        data = bytes([size % 256]) * size
        is_there = self.open[number].get(key) is not None
        if not is_there and self.open[number].put(key, data):
            self.model[number, key] = data

    @stateful.rule(number=caches, key=keys)
    def get(self, number, key):
        assert self.open[number].get(key) in (None, self.model.get((number, key)))

    @stateful.rule(number=caches, key=keys)
    def discard(self, number, key):
        self.open[number].discard(key)
        assert self.open[number].get(key) is None

    @stateful.rule(place=strategies.integers(0, 2**20), flip=strategies.integers(1, 255))
    def damage(self, place, flip):
        entries = sorted(cache_folders.files_of(self.folder.name)[0])
        if entries:
            path = entries[place % len(entries)]
            data = bytearray(path.read_bytes())
            data[place % len(data)] ^= flip
            path.write_bytes(data)

    @stateful.rule(number=caches)
    def reopen(self, number):
        self.open[number] = self.reopened(number)

    @stateful.invariant()
    def the_limit_holds_and_all_is_counted(self):
        there = cache_folders.disk_bytes(self.folder.name)
        assert there == self.open[0].used_bytes <= self.LIMIT

    def teardown(self):
        self.folder.cleanup()


TwoCaches.TestCase.settings = hypothesis.settings(max_examples=60, stateful_step_count=40, deadline=None)
test_two_caches_agree_with_a_dictionary = TwoCaches.TestCase
