"""The disk cache is never wrong, never too large, and no trouble with the disk reaches its user."""

import logging
import os
import pathlib
import random
import time

import pytest

from imagetrain_trainer.data import cache_entry, disk_cache

MIB = 1 << 20


def open_cache(folder, max_bytes=64 * MIB, scope="sha256:one", **options):
    return disk_cache.DiskCache(folder, max_bytes, scope, **options)


def files_of(folder):
    """Return the entries' paths, and the unfinished files'."""
    found = [path for path in pathlib.Path(folder).rglob("*") if path.is_file()]
    entries = [path for path in found if cache_entry.is_file_name(path.name)]
    return entries, [path for path in found if path.parent.name == "partial"]


def disk_bytes(folder):
    entries, partial = files_of(folder)
    return sum(cache_entry.footprint(path.stat().st_size) for path in entries + partial)


def test_what_was_put_is_found_by_any_later_cache_of_the_scope(tmp_path):
    cache = open_cache(tmp_path / "cache")
    assert cache.get("train-0/0-5") is None
    assert cache.put("train-0/0-5", b"bytes")
    assert cache.put("empty", b"")
    assert cache.get("train-0/0-5") == b"bytes"
    later = open_cache(tmp_path / "cache")
    assert (later.get("train-0/0-5"), later.get("empty"), later.get("train-0/0-6")) == (b"bytes", b"", None)
    assert later.counters == disk_cache.CacheCounters(hits=2, misses=1, hit_bytes=5)
    assert cache.counters == disk_cache.CacheCounters(hits=1, misses=1, hit_bytes=5, puts=2, put_bytes=5)
    assert cache.used_bytes == later.used_bytes == disk_bytes(tmp_path)


def test_data_sets_share_a_folder_and_see_only_their_own(tmp_path):
    one, other = open_cache(tmp_path), open_cache(tmp_path, scope="sha256:two")
    one.put("a", b"1")
    assert other.get("a") is None
    other.put("a", b"2")
    assert (one.get("a"), other.get("a")) == (b"1", b"2")
    assert one.used_bytes == other.used_bytes == 2 * 4096


def test_the_folder_is_open_to_its_owner_alone(tmp_path):
    cache = open_cache(tmp_path / "cache")
    cache.put("a", b"1")
    for path in (tmp_path / "cache").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_the_least_recently_used_entries_go_first(tmp_path):
    cache = open_cache(tmp_path, 20 * 4096, touch_seconds=0)
    for number in range(20):
        cache.put(f"{number}", b"x")
    for path in files_of(tmp_path)[0]:
        os.utime(path, (1, 1))  # all long ago
    used = [number for number in range(20) if number % 3 == 0]
    assert all(cache.get(f"{number}") == b"x" for number in used)
    cache.put("new", b"x")
    assert cache.counters.evictions == 2  # down to 18 blocks, before the new one's
    assert cache.used_bytes == disk_bytes(tmp_path) == 19 * 4096
    assert cache.get("new") == b"x"
    assert all(cache.get(f"{number}") == b"x" for number in used)


def test_the_last_use_is_written_at_most_once_in_a_while(tmp_path):
    cache = open_cache(tmp_path, touch_seconds=1000)
    cache.put("a", b"x")
    (path,) = files_of(tmp_path)[0]
    soon, late = time.time() - 900, time.time() - 1100
    for stamp, is_kept in ((soon, True), (late, False)):
        os.utime(path, (stamp, stamp))
        cache.get("a")
        assert (path.stat().st_mtime == pytest.approx(stamp, abs=1e-3)) is is_kept


def test_the_limit_holds_after_every_put(tmp_path):
    randomness = random.Random(3)
    evictions = 0
    for epoch in range(20):
        cache = open_cache(tmp_path, 100_000, f"{epoch}")  # the one before is not read any more
        for number in range(20):
            cache.put(f"{number}", randomness.randbytes(randomness.randrange(8_000)))
            assert disk_bytes(tmp_path) == cache.used_bytes <= 100_000
        assert cache.counters.puts >= 12
        evictions += cache.counters.evictions
    assert evictions > 150


def test_a_set_that_is_being_read_keeps_what_it_has(tmp_path):
    cache = open_cache(tmp_path, 10 * 4096)
    for number in range(20):
        cache.put(f"{number}", b"x")
    assert [cache.get(f"{number}") is not None for number in range(20)] == [True] * 10 + [False] * 10
    assert (cache.counters.puts, cache.counters.refused, cache.counters.evictions) == (10, 10, 0)


def test_sets_that_are_read_at_the_same_time_come_to_equal_parts(tmp_path):
    first, second = open_cache(tmp_path, 40 * 4096, "one"), open_cache(tmp_path, 40 * 4096, "two")
    for number in range(60):
        first.put(f"{number}", b"x")
    for number in range(60):
        second.put(f"{number}", b"x")
    held = [sum(cache.get(f"{number}") is not None for number in range(60)) for cache in (first, second)]
    assert sum(held) >= 36
    assert min(held) >= 17


def test_a_lower_limit_than_the_run_before_is_kept_from_the_start(tmp_path):
    cache = open_cache(tmp_path, 20 * 4096)
    for number in range(20):
        cache.put(f"{number}", b"x")
    smaller = open_cache(tmp_path, 5 * 4096)
    assert disk_bytes(tmp_path) == smaller.used_bytes <= 5 * 4096
    assert smaller.counters.evictions >= 15


def test_what_is_larger_than_the_cache_is_not_kept_and_displaces_nothing(tmp_path):
    cache = open_cache(tmp_path, 50_000)
    cache.put("small", b"x")
    assert not cache.put("large", bytes(50_000))
    assert cache.get("small") == b"x"
    assert cache.counters.refused == 1


def test_a_changed_byte_anywhere_is_a_miss_and_the_entry_is_gone(tmp_path):
    cache = open_cache(tmp_path)
    data = random.Random(1).randbytes(300)
    cache.put("key", data)
    (path,) = files_of(tmp_path)[0]
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
    cache = open_cache(tmp_path)
    cache.put("key", b"0123456789" * 1000)
    (path,) = files_of(tmp_path)[0]
    path.write_bytes(change(path.read_bytes()))
    assert cache.get("key") is None
    assert not path.exists()
    cache.put("key", b"again")
    assert cache.get("key") == b"again"


def test_a_right_entry_in_another_ones_place_is_a_miss(tmp_path):
    cache = open_cache(tmp_path)
    cache.put("a", b"1")
    (first,) = files_of(tmp_path)[0]
    cache.put("b", b"2")
    (second,) = set(files_of(tmp_path)[0]) - {first}
    second.rename(first)
    assert cache.get("a") is None
    assert cache.get("b") is None


def test_a_negative_limit_is_an_error_and_zero_keeps_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"^max_bytes must be at least 0, got -1\.$"):
        open_cache(tmp_path, -1)
    cache = open_cache(tmp_path, 0)
    assert not cache.put("a", b"")
    assert cache.get("a") is None


def test_a_file_in_the_folders_place_turns_the_cache_off_with_one_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("not a folder")
    with caplog.at_level(logging.WARNING):
        cache = open_cache(tmp_path / "file")
        assert not cache.put("a", b"1")
        assert cache.get("a") is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert not cache.is_writable


def test_what_proved_wrong_can_be_discarded(tmp_path):
    cache = open_cache(tmp_path)
    cache.put("a", b"right by its CRC, and not what the index says")
    cache.discard("a")
    cache.discard("never there")
    assert cache.get("a") is None
    assert cache.used_bytes == disk_bytes(tmp_path) == 0
