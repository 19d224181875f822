"""What every store does, on a folder, moto server and versitygw."""

import concurrent.futures
import uuid

import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.storage import store


@pytest.fixture(params=["file", "moto", "versitygw"])
def objects(request, tmp_path, monkeypatch):
    if request.param == "file":
        return store.open_store(str(tmp_path / "root"))
    server = request.getfixturevalue(f"{request.param}_s3")
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    bucket = server.create_bucket(f"test-{uuid.uuid4().hex}")
    return store.open_store(f"s3://{bucket}/some/prefix/")


def test_what_is_put_is_read_back(objects):
    info = objects.put("a/b.bin", b"hello", content_type="application/octet-stream")
    assert info.size_bytes == 5
    assert objects.get("a/b.bin") == b"hello"
    assert objects.head("a/b.bin") == info


def test_an_empty_object_is_an_object(objects):
    objects.put("empty", b"")
    assert objects.get("empty") == b""
    assert objects.exists("empty")


def test_ranges_are_exact_in_any_order(objects):
    data = bytes(range(256)) * 4096
    objects.put("big", data)
    starts, lengths = [900_000, 3, 0, 500_000], [10, 1, 700, 100_000]
    assert objects.get_ranges("big", starts, lengths) == [
        data[start : start + length] for start, length in zip(starts, lengths, strict=True)
    ]
    assert objects.get_range("big", 1, 2) == b"\x01\x02"
    assert objects.get_ranges("big", [], []) == []


@pytest.mark.parametrize(("start", "length"), [(3, 40), (10, 4)])
def test_a_range_past_the_end_is_corrupt_data(objects, start, length):
    objects.put("short", b"hello")
    with pytest.raises(errors.DataCorruptError, match=rf"{objects.uri}short must hold bytes {start} to"):
        objects.get_range("short", start, length)


def test_a_missing_object_is_named(objects):
    with pytest.raises(errors.ObjectNotFoundError, match=f"{objects.uri}no/such does not exist"):
        objects.get("no/such")
    with pytest.raises(errors.ObjectNotFoundError):
        objects.head("no/such")
    with pytest.raises(errors.ObjectNotFoundError):
        objects.get_range("no/such", 0, 1)
    assert not objects.exists("no/such")


def test_a_conditional_write_keeps_what_is_there(objects):
    objects.put("m.json", b"first", only_if_absent=True)
    with pytest.raises(errors.ObjectExistsError, match=f"{objects.uri}m.json must not exist yet"):
        objects.put("m.json", b"second", only_if_absent=True)
    assert objects.get("m.json") == b"first"
    objects.put("m.json", b"third")
    assert objects.get("m.json") == b"third"


def test_of_many_conditional_writers_one_wins(objects):
    def write(number):
        try:
            objects.put("lock", b"%d" % number, only_if_absent=True)
        except errors.ObjectExistsError:
            return None
        return number

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(write, range(16)) if number is not None]
    assert len(winners) == 1
    assert objects.get("lock") == b"%d" % winners[0]


def test_a_swap_needs_the_etag_that_was_read(objects):
    first = objects.put("latest.json", b"1")
    second = objects.put_if_match("latest.json", b"2", first.etag, content_type="application/json")
    assert objects.head("latest.json").etag == second.etag
    with pytest.raises(errors.ObjectExistsError, match=f"{objects.uri}latest.json must be unchanged"):
        objects.put_if_match("latest.json", b"3", first.etag)
    assert objects.get("latest.json") == b"2"
    objects.delete(["latest.json"])
    with pytest.raises(errors.ObjectExistsError):
        objects.put_if_match("latest.json", b"4", second.etag)
    assert list(objects.list()) == []


def test_list_folders_shows_one_level(objects):
    for key in ("runs/b/x/1", "runs/a/1", "runs/top", "other/1"):
        objects.put(key, b"")
    assert objects.list_folders("runs") == ["a", "b"]
    assert objects.list_folders() == ["other", "runs"]
    assert objects.list_folders("none") == []


def test_list_is_sorted_and_knows_whole_folder_names(objects):
    for key in ("b/2", "a/z", "b/10", "bc/1", "top"):
        objects.put(key, b"12")
    assert [info.key for info in objects.list()] == ["a/z", "b/10", "b/2", "bc/1", "top"]
    assert [(info.key, info.size_bytes) for info in objects.list("b")] == [("b/10", 2), ("b/2", 2)]
    assert list(objects.list("none")) == []


def test_delete_takes_keys_that_are_not_there(objects):
    objects.put("x/1", b"1")
    objects.put("x/2", b"2")
    objects.delete(["x/1", "x/none"])
    objects.delete([])
    assert [info.key for info in objects.list()] == ["x/2"]


def test_a_child_is_a_folder_of_its_parent(objects):
    child = objects.child("runs/7")
    child.put("a", b"1")
    assert child.uri == f"{objects.uri}runs/7/"
    assert objects.get("runs/7/a") == b"1"
    assert [info.key for info in child.list()] == ["a"]


def test_files_go_up_and_come_down_whole(objects, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 80_000)  # 20 MB: two parts
    assert objects.upload_file("up", source).size_bytes == source.stat().st_size
    with pytest.raises(errors.ObjectExistsError):
        objects.upload_file("up", source, only_if_absent=True)
    target = tmp_path / "down" / "target"
    target.parent.mkdir()
    assert objects.download_file("up", target).size_bytes == source.stat().st_size
    assert target.read_bytes() == source.read_bytes()
    with pytest.raises(errors.ObjectNotFoundError):
        objects.download_file("none", target)
    assert sorted(path.name for path in target.parent.iterdir()) == ["target"]


def test_the_probe_leaves_nothing(objects):
    objects.probe_writable()
    assert list(objects.list()) == []


@pytest.mark.parametrize("key", ["", "/a", "a//b", "../x", "a/../../x", "a/./b", "a#1", "a?b", "a\nb", "a\\b", "a/"])
def test_a_key_cannot_leave_the_store(objects, key):
    with pytest.raises(errors.ConfigError, match="object key must be"):
        objects.put(key, b"")
    with pytest.raises(errors.ConfigError, match="object key must be"):
        objects.get_ranges(key, [0], [1])


@pytest.mark.parametrize("uri", ["s3://", "s3://UPPER/x", "gs://bucket/x", "file://host/x", "s3://key:secret@host/b"])
def test_a_malformed_uri_is_a_config_error(uri):
    with pytest.raises(errors.ConfigError, match="storage URI must be"):
        store.open_store(uri)
