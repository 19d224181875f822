"""Trouble with the disk of a cache reaches nobody: one warning, and reads from storage."""

import os
import pathlib
import shutil
import subprocess

import pytest

import cache_folders


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
    cache = cache_folders.open_cache(tiny_disk, 100 * cache_folders.MIB)
    results = [cache.put(f"{number}", bytes(50_000)) for number in range(40)]
    assert 10 < sum(results) < 22
    assert results == sorted(results, reverse=True)
    assert not cache.is_writable
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"{tiny_disk}/v1: no space is left (No space left on device)" in caplog.text
    assert [cache.get(f"{number}") for number in range(40)] == [bytes(50_000) if here else None for here in results]
    assert cache_folders.files_of(tiny_disk)[1] == []
    assert cache.used_bytes == cache_folders.disk_bytes(tiny_disk)


def test_a_disk_that_is_read_only_serves_reads_with_one_warning(tiny_disk, caplog):
    cache_folders.open_cache(tiny_disk).put("a", b"1")
    path = cache_folders.files_of(tiny_disk)[0][0]
    os.utime(path, (1, 1))
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    cache = cache_folders.open_cache(tiny_disk)
    assert cache.get("a") == b"1"
    assert not cache.put("b", b"2")
    assert cache.get("b") is None
    with cache.claim("b") as claim:
        assert claim is not None
    assert "Read-only file system" in caplog.text
    assert len(caplog.records) == 1


def test_a_file_that_grows_too_large_turns_writing_off_with_one_warning(tmp_path):
    out, err = cache_folders.run("limited", tmp_path, cache_folders.MIB)
    assert out == "[False, False, None, False]"
    assert err.count("no space is left") == 1
    assert cache_folders.files_of(tmp_path) == ([], [])


def test_a_folder_of_another_user_is_not_used_with_one_warning(tmp_path):
    if os.geteuid():
        pytest.skip("becoming another user takes root")
    place = tmp_path / "cache"
    cache_folders.open_cache(place).put("a", b"1")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and folder != pathlib.Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    out, err = cache_folders.run("as-nobody", place, cache_folders.MIB)
    assert out == "[None, False, None, False]"
    assert err.count("Disk cache") == 1
    assert "Permission denied" in err


def test_an_entry_that_another_user_wrote_is_not_trusted(tmp_path):
    if os.geteuid():
        pytest.skip("giving a file away takes root")
    cache = cache_folders.open_cache(tmp_path)
    cache.put("a", b"1")
    os.chown(cache_folders.files_of(tmp_path)[0][0], 12345, 12345)
    assert cache.get("a") is None
    assert cache.counters.damaged == 0


def test_an_entry_that_is_a_link_is_not_followed(tmp_path):
    cache = cache_folders.open_cache(tmp_path / "cache")
    cache.put("a", b"1")
    (path,) = cache_folders.files_of(tmp_path / "cache")[0]
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert cache.get("a") is None


def test_a_folder_that_is_emptied_meanwhile_is_made_again(tmp_path, caplog):
    cache = cache_folders.open_cache(tmp_path / "cache")
    cache.put("a", b"1")
    shutil.rmtree(tmp_path / "cache")
    assert cache.get("a") is None
    assert not cache.put("a", b"1")
    assert cache.put("a", b"1")
    assert cache.get("a") == b"1"
    assert not caplog.records


@pytest.mark.parametrize("content", [b"", b"nonsense", bytes(44)])
def test_a_count_that_is_lost_is_taken_again(tmp_path, content):
    cache = cache_folders.open_cache(tmp_path)
    for number in range(10):
        cache.put(f"{number}", b"x")
    (tmp_path / "v1" / "usage").write_bytes(content)
    assert cache_folders.open_cache(tmp_path).used_bytes == 10 * 4096
    (tmp_path / "v1" / "usage").write_bytes(content)
    assert cache.put("10", b"x")
    assert cache.used_bytes == 11 * 4096


def test_strange_files_in_the_folder_stay(tmp_path):
    cache = cache_folders.open_cache(tmp_path, 40_960)
    strange = [tmp_path / "mine", tmp_path / "v1" / "mine", tmp_path / "v1" / "00" / "mine"]
    (tmp_path / "v1" / "00").mkdir()
    for path in strange:
        path.write_bytes(bytes(50_000))
    for epoch in range(3):
        cache = cache_folders.open_cache(tmp_path, 40_960, f"{epoch}")
        for number in range(20):
            cache.put(f"{number}", b"x")
    assert cache.counters.evictions
    assert all(path.exists() for path in strange)
