"""A run keeps the data set it began with, whatever happens to `latest` and to the data."""

import concurrent.futures
import dataclasses
import logging
import secrets

import pytest

import dataset_versions
from imagetrain_api import job
from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset, versions
from imagetrain_trainer.storage import store
from imagetrain_trainer.training import pinned_data


@pytest.fixture(params=["folder", "versitygw"])
def root(request, tmp_path):
    """A place for data and output: a folder, or a bucket of a real server."""
    if request.param == "folder":
        return tmp_path.as_uri()
    server = request.getfixturevalue("versitygw_s3")
    environment = request.getfixturevalue("monkeypatch")
    for name, value in server.environment().items():
        environment.setenv(name, value)
    return f"s3://{server.create_bucket(f'pins-{secrets.token_hex(6)}')}"


@pytest.fixture
def above(root):
    """Two versions, of which v1 is the latest."""
    objects = store.open_store(f"{root}/x/")
    dataset_versions.make_version(objects, "v1", title="one")
    dataset_versions.make_version(objects, "v2", title="two")
    versions.move(objects, "v1")
    return objects


@pytest.fixture
def run_store(root):
    return store.open_store(f"{root}/models/").child("runs/r1")


def spec_of(root, data="x/latest", output="models"):
    return job.decode_job(
        {
            "apiVersion": "imagetrain.dev/v1alpha1",
            "kind": "ImageTrainingJob",
            "metadata": {"name": "j"},
            "spec": {
                "data": {"uri": f"{root}/{data}/"},
                "output": {"uri": f"{root}/{output}/"},
                "model": {"architecture": "small_cnn", "inputShape": [2, 2, 1]},
                "training": {"epochs": 1, "globalBatchSize": 1},
            },
        }
    ).spec


def test_latest_is_resolved_once_and_every_later_attempt_reads_the_same_version(root, above, run_store, caplog):
    caplog.set_level(logging.INFO)
    first = pinned_data.open_pinned(spec_of(root), run_store, is_chief=True)
    assert first.pin.version == "v1"
    assert first.pin.uri == f"{above.uri}v1/"
    assert f"the data set is {above.uri}v1/, version v1, digest {first.pin.digest}" in caplog.text
    versions.move(above, "v2")
    for is_chief in (True, False):
        again = pinned_data.open_pinned(spec_of(root), run_store, is_chief=is_chief)
        assert again.pin == first.pin
        assert again.objects.uri == f"{above.uri}v1/"
    other_run = store.open_store(f"{root}/models/").child("runs/r2")
    assert pinned_data.open_pinned(spec_of(root), other_run, is_chief=True).pin.version == "v2"


def test_workers_wait_for_the_chief_and_all_get_its_version(root, above, run_store):
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(pinned_data.open_pinned, spec_of(root), run_store, is_chief=False) for _ in range(3)]
        assert not concurrent.futures.wait(waiting, timeout=0.3).done
        chief = pinned_data.open_pinned(spec_of(root), run_store, is_chief=True)
        versions.move(above, "v2")
        assert {future.result(timeout=60).pin for future in waiting} == {chief.pin}


def test_a_worker_that_waits_says_so(root, above, run_store):
    told = []

    def pin():
        told.append(True)
        pinned_data.open_pinned(spec_of(root), run_store, is_chief=True)

    assert pinned_data.open_pinned(spec_of(root), run_store, is_chief=False, on_wait=pin).pin.version == "v1"
    assert told == [True]


@pytest.mark.parametrize("data", ["x/latest", "x/v1"])
def test_a_version_that_was_replaced_is_refused_by_every_later_attempt(root, above, run_store, data):
    pinned = pinned_data.open_pinned(spec_of(root, data), run_store, is_chief=True)
    dataset_versions.make_version(above, "v1", title="replaced")
    versions.move(above, "v1")
    with pytest.raises(errors.DataCorruptError, match=r"with which this run began.*the data set was replaced"):
        pinned_data.open_pinned(spec_of(root, data), run_store, is_chief=True)
    with pytest.raises(errors.DataCorruptError, match="replaced"):
        pinned.check(dataset.load_dataset(pinned.objects))


def test_a_version_that_was_deleted_is_not_found(root, above, run_store):
    pinned_data.open_pinned(spec_of(root), run_store, is_chief=True)
    above.delete([f"v1/{dataset.KEY}"])
    with pytest.raises(errors.ObjectNotFoundError):
        pinned_data.open_pinned(spec_of(root), run_store, is_chief=True)


def test_a_resumed_run_takes_no_other_data_but_a_copy_of_the_same(root, above, run_store):
    pinned_data.open_pinned(spec_of(root), run_store, is_chief=True)
    with pytest.raises(errors.ConfigError, match=r"spec\.data\.uri must be the data set with which this run began"):
        pinned_data.open_pinned(spec_of(root, "x/v2"), run_store, is_chief=True)
    store.open_store(f"{root}/copy/").put(dataset.KEY, above.get(f"v1/{dataset.KEY}"))
    for data in ("copy", "x/v1"):
        opened = pinned_data.open_pinned(spec_of(root, data), run_store, is_chief=True)
        assert opened.objects.uri == f"{root}/{data}/"


def test_output_inside_the_version_that_latest_stood_for_is_refused(root, above, run_store):
    with pytest.raises(errors.ConfigError, match=r"spec\.output\.uri must lie outside the data set"):
        pinned_data.open_pinned(spec_of(root, output="x/v1/models"), run_store, is_chief=True)
    assert not run_store.exists("data.json")


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"schemaVersion": 2, "asked": "", "uri": "", "version": "", "digest": ""}']
)
def test_a_pin_that_is_damaged_is_named(tmp_path, data):
    run_store = store.open_store(str(tmp_path))
    run_store.put("data.json", data)
    with pytest.raises(errors.DataCorruptError, match=r"data\.json must"):
        pinned_data.read_pin(run_store)


def test_two_chiefs_of_one_run_agree(root, above, run_store, monkeypatch):
    """One that was given up and lives on pins v1 while the new one was about to pin v2."""
    spec = spec_of(root)
    load = versions.load

    def overtaken(place):
        loaded = load(place)
        monkeypatch.setattr(versions, "load", load)
        pinned_data.open_pinned(spec, run_store, is_chief=True)
        return loaded

    versions.move(above, "v2")
    monkeypatch.setattr(versions, "load", overtaken)
    above_v1 = dataclasses.replace(spec, data=dataclasses.replace(spec.data, uri=f"{root}/x/latest"))
    assert pinned_data.open_pinned(above_v1, run_store, is_chief=True).pin == pinned_data.read_pin(run_store)
