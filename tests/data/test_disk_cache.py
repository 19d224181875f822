"""The disk cache is never wrong, never too large, and no trouble with the disk reaches its user."""

import concurrent.futures
import logging
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

import hypothesis
import pytest
from hypothesis import stateful, strategies

import cache_processes
from imagetrain_trainer.data import cache_entry, cache_usage, disk_cache

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


def start(*arguments, **options):
    command = [sys.executable, cache_processes.__file__, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def run(*arguments):
    with start(*arguments) as process:
        out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err[-2000:]
    return out.strip(), err


def test_a_writer_may_be_killed_at_any_line(tmp_path):
    lines, _ = run("kill-at-every-line", tmp_path / "cache", 200_000)
    assert int(lines) > 150


def test_writers_may_be_killed_at_a_hundred_random_moments(tmp_path):
    run("kill-at-random", tmp_path / "cache", 600_000, 100)


def test_processes_that_share_a_small_cache_keep_its_limit(tmp_path):
    limit = 1_000_000
    processes = [start("use", tmp_path, limit, seed, 4) for seed in range(4)]
    largest = 0
    while any(process.poll() is None for process in processes):
        entries, partial = cache_processes.entry_sizes(tmp_path)
        largest = max(largest, entries + partial)
    for process in processes:
        _, err = process.communicate()
        assert process.returncode == 0, err
    # A file that moves to its place meanwhile is seen twice: one a process.
    assert 0.5 * limit < largest <= limit + 4 * cache_processes.LARGEST
    assert disk_bytes(tmp_path) <= limit
    cache_processes.check(str(tmp_path), limit, 200)


@pytest.fixture
def tiny_disk(tmp_path):
    """Mount 1 MiB; unmounted at the end."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0755", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting takes root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_turns_writing_off_with_one_warning_and_what_is_there_still_serves(tiny_disk, caplog):
    cache = open_cache(tiny_disk, 100 * MIB)
    results = [cache.put(f"{number}", bytes(50_000)) for number in range(40)]
    assert 10 < sum(results) < 22
    assert results == sorted(results, reverse=True)
    assert not cache.is_writable
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"{tiny_disk}/v1: no space is left (No space left on device)" in caplog.text
    assert [cache.get(f"{number}") for number in range(40)] == [bytes(50_000) if here else None for here in results]
    assert files_of(tiny_disk)[1] == []
    assert cache.used_bytes == disk_bytes(tiny_disk)


def test_a_disk_that_is_read_only_serves_reads_with_one_warning(tiny_disk, caplog):
    open_cache(tiny_disk).put("a", b"1")
    path = files_of(tiny_disk)[0][0]
    os.utime(path, (1, 1))
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    cache = open_cache(tiny_disk)
    assert cache.get("a") == b"1"
    assert not cache.put("b", b"2")
    assert cache.get("b") is None
    with cache.claim("b") as claim:
        assert claim is not None
    assert "Read-only file system" in caplog.text
    assert len(caplog.records) == 1


def test_a_file_that_grows_too_large_turns_writing_off_with_one_warning(tmp_path):
    out, err = run("limited", tmp_path, MIB)
    assert out == "[False, False, None, False]"
    assert err.count("no space is left") == 1
    assert files_of(tmp_path) == ([], [])


def test_a_folder_of_another_user_is_not_used_with_one_warning(tmp_path):
    if os.geteuid():
        pytest.skip("becoming another user takes root")
    place = tmp_path / "cache"
    open_cache(place).put("a", b"1")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and folder != pathlib.Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    out, err = run("as-nobody", place, MIB)
    assert out == "[None, False, None, False]"
    assert err.count("Disk cache") == 1
    assert "Permission denied" in err


def test_an_entry_that_another_user_wrote_is_not_trusted(tmp_path):
    if os.geteuid():
        pytest.skip("giving a file away takes root")
    cache = open_cache(tmp_path)
    cache.put("a", b"1")
    os.chown(files_of(tmp_path)[0][0], 12345, 12345)
    assert cache.get("a") is None
    assert cache.counters.damaged == 0


def test_an_entry_that_is_a_link_is_not_followed(tmp_path):
    cache = open_cache(tmp_path / "cache")
    cache.put("a", b"1")
    (path,) = files_of(tmp_path / "cache")[0]
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert cache.get("a") is None


def test_a_folder_that_is_emptied_meanwhile_is_made_again(tmp_path, caplog):
    cache = open_cache(tmp_path / "cache")
    cache.put("a", b"1")
    shutil.rmtree(tmp_path / "cache")
    assert cache.get("a") is None
    assert not cache.put("a", b"1")
    assert cache.put("a", b"1")
    assert cache.get("a") == b"1"
    assert not caplog.records


@pytest.mark.parametrize("content", [b"", b"nonsense", bytes(44)])
def test_a_count_that_is_lost_is_taken_again(tmp_path, content):
    cache = open_cache(tmp_path)
    for number in range(10):
        cache.put(f"{number}", b"x")
    (tmp_path / "v1" / "usage").write_bytes(content)
    assert open_cache(tmp_path).used_bytes == 10 * 4096
    (tmp_path / "v1" / "usage").write_bytes(content)
    assert cache.put("10", b"x")
    assert cache.used_bytes == 11 * 4096


def test_strange_files_in_the_folder_stay(tmp_path):
    cache = open_cache(tmp_path, 40_960)
    strange = [tmp_path / "mine", tmp_path / "v1" / "mine", tmp_path / "v1" / "00" / "mine"]
    (tmp_path / "v1" / "00").mkdir()
    for path in strange:
        path.write_bytes(bytes(50_000))
    for epoch in range(3):
        cache = open_cache(tmp_path, 40_960, f"{epoch}")
        for number in range(20):
            cache.put(f"{number}", b"x")
    assert cache.counters.evictions
    assert all(path.exists() for path in strange)


def test_one_claims_and_the_others_wait_for_what_it_puts(tmp_path):
    cache = open_cache(tmp_path)
    fetched = []

    def load(_):
        found = cache.get("a")
        if found is None:
            claim = cache.claim("a")
            if claim is None:
                return cache.wait("a", 30)
            with claim:
                found = cache.get("a")  # the claim before this one may have brought it
                if found is None:
                    fetched.append("a")
                    cache.put("a", b"1")
                    found = b"1"
        return found

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert list(pool.map(load, range(200))) == [b"1"] * 200
    assert fetched == ["a"]
    assert list((tmp_path / "v1" / "claims").iterdir()) == []


def test_a_claim_that_changes_hands_while_it_is_asked_for_has_one_holder(tmp_path, monkeypatch):
    cache = open_cache(tmp_path)
    first, others, lock = cache.claim("a"), [], cache_usage.try_lock

    def lock_late(descriptor):
        if not others:
            others.append(None)
            first.release()
            others.append(cache.claim("a"))
        return lock(descriptor)

    monkeypatch.setattr(cache_usage, "try_lock", lock_late)
    assert cache.claim("a") is None
    others[1].release()
    assert cache.claim("a") is not None


def test_nobody_waits_for_a_claim_of_the_dead(tmp_path):
    cache = open_cache(tmp_path, scope=cache_processes.SCOPES[0])
    with start("claim", tmp_path, MIB) as process:
        assert process.stdout.readline() == "True\n"
        assert cache.claim("a") is None
        assert cache.wait("a", 0.05) is None  # over time
        process.kill()
    assert cache.wait("a", 60) is None
    with cache.claim("a") as claim:
        assert claim is not None


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
        return open_cache(self.folder.name, self.LIMIT, f"{number}", touch_seconds=0)

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
        entries = sorted(files_of(self.folder.name)[0])
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
        there = disk_bytes(self.folder.name)
        assert there == self.open[0].used_bytes <= self.LIMIT

    def teardown(self):
        self.folder.cleanup()


TwoCaches.TestCase.settings = hypothesis.settings(max_examples=60, stateful_step_count=40, deadline=None)
test_two_caches_agree_with_a_dictionary = TwoCaches.TestCase
