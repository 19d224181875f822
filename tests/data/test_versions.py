"""Versions of a data set and the pointer to the latest, on a folder and on a real S3 server."""

import concurrent.futures
import json
import secrets

import pytest

import dataset_versions
from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset, versions
from imagetrain_trainer.storage import store


@pytest.fixture(params=["folder", "versitygw"])
def above(request, tmp_path):
    """The store of the prefix above the versions."""
    if request.param == "folder":
        return store.open_store(str(tmp_path / "x"))
    server = request.getfixturevalue("versitygw_s3")
    environment = request.getfixturevalue("monkeypatch")
    for name, value in server.environment().items():
        environment.setenv(name, value)
    return store.open_store(f"s3://{server.create_bucket(f'versions-{secrets.token_hex(6)}')}/x/")


def test_latest_is_followed_to_the_version_it_names(above):
    digest = dataset_versions.make_version(above, "v1")
    assert versions.move(above, "v1").before is None
    place = versions.locate(f"{above.uri}latest")
    assert (place.version, place.digest) == ("v1", digest)
    assert place.objects.uri == f"{above.uri}v1/"
    assert versions.load(place).digest == digest
    assert versions.locate(f"{above.uri}latest/").version == "v1"
    assert json.loads(above.get("latest.json")) == {"schemaVersion": 1, "version": "v1", "digest": digest}


def test_the_pointer_moves_on_and_back_only_for_who_says_so(above):
    for name in ("v2", "v9", "v10"):
        dataset_versions.make_version(above, name)
    assert not versions.move(above, "v9").is_back
    assert not versions.move(above, "v10").is_back
    with pytest.raises(errors.ConfigError, match=r"must not move back from v10 to v2 unasked.* --set v2"):
        versions.move(above, "v2")
    assert versions.read_pointer(above).version == "v10"
    moved = versions.move(above, "v2", may_go_back=True)
    assert moved.is_back
    assert moved.before.version == "v10"
    assert versions.read_pointer(above).version == "v2"


def test_a_version_that_is_not_there_cannot_be_the_latest(above):
    with pytest.raises(errors.ObjectNotFoundError, match="holds no packed data set"):
        versions.move(above, "v1")
    with pytest.raises(errors.ObjectNotFoundError, match=r"no version below .* is the latest"):
        versions.locate(f"{above.uri}latest")


def test_a_version_that_was_replaced_behind_the_pointer_is_refused(above):
    dataset_versions.make_version(above, "v1")
    versions.move(above, "v1")
    dataset_versions.make_version(above, "v1", title="another")
    with pytest.raises(errors.DataCorruptError, match="the version was replaced"):
        versions.load(versions.locate(f"{above.uri}latest"))
    assert versions.move(above, "v1").after.digest == versions.load(versions.locate(f"{above.uri}v1")).digest


def test_of_many_who_move_it_at_once_the_last_name_wins(tmp_path):
    above = store.open_store(str(tmp_path))
    for number in range(8):
        dataset_versions.make_version(above, f"v{number}")

    def move(number):
        try:
            return versions.move(above, f"v{number}")
        except errors.ConfigError:
            return None  # a later one was faster

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        moves = [move for move in pool.map(move, range(8)) if move]
    assert versions.read_pointer(above).version == "v7"
    steps = sorted((move.before.version if move.before else "", move.after.version) for move in moves)
    assert all(before < after for before, after in steps)
    assert len({before for before, _ in steps}) == len(steps)  # each step began where another ended


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"schemaVersion": 2, "version": "v1", "digest": "sha256:%s"}' % (b"0" * 64),
        b'{"schemaVersion": 1, "version": "../v1", "digest": "sha256:%s"}' % (b"0" * 64),
        b'{"schemaVersion": 1, "version": 7, "digest": "sha256:%s"}' % (b"0" * 64),
        b'{"schemaVersion": 1, "version": "v1", "digest": "md5:0"}',
        b'{"schemaVersion": 1, "version": "latest", "digest": "sha256:%s"}' % (b"0" * 64),
    ],
)
def test_a_pointer_that_is_none_is_corrupt_and_an_explicit_move_mends_it(tmp_path, data):
    above = store.open_store(str(tmp_path))
    dataset_versions.make_version(above, "v1")
    above.put("latest.json", data)
    with pytest.raises(errors.DataCorruptError, match=r"latest\.json must be a pointer"):
        versions.locate(f"{tmp_path}/latest")
    with pytest.raises(errors.DataCorruptError):
        versions.move(above, "v1")
    versions.move(above, "v1", may_go_back=True)
    assert versions.locate(f"{tmp_path}/latest").version == "v1"


def test_a_data_set_in_a_folder_called_latest_is_still_read(tmp_path):
    above = store.open_store(str(tmp_path))
    digest = dataset_versions.make_version(above, "latest")
    place = versions.locate(f"{tmp_path}/latest/")
    assert (place.version, versions.load(place).digest) == (None, digest)


def test_versions_are_listed_in_the_order_of_their_numbers(above):
    for name in ("v10", "v2", "2026-11-24"):
        dataset_versions.make_version(above, name)
    above.put("notes/readme.txt", b"no data set")
    above.put(f"v3/{dataset.KEY}", b"{")
    found = versions.list_versions(above)
    assert [version.name for version in found] == ["2026-11-24", "v2", "v3", "v10"]
    assert [version.dataset is None for version in found] == [False, False, True, False]
    assert "must be a data set description" in found[2].problem


@pytest.mark.parametrize("name", ["", "latest", "latest.json", "a/b", "..", "a?b"])
def test_a_name_that_is_no_folder_is_refused(name):
    with pytest.raises(errors.ConfigError):
        versions.check_name(name)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://datasets/x/v1/", ("s3://datasets/x/", "v1")),
        ("s3://datasets/v1", ("s3://datasets/", "v1")),
        ("/srv/x/v1", ("/srv/x/", "v1")),
    ],
)
def test_a_uri_is_split_into_prefix_and_version(uri, expected):
    assert versions.split_version(uri) == expected


@pytest.mark.parametrize("uri", ["s3://datasets/", "v1", "s3://datasets/x/latest"])
def test_a_uri_without_a_version_is_refused(uri):
    with pytest.raises(errors.ConfigError):
        versions.split_version(uri)
