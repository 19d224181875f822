"""What the measurement at the start of a run chooses."""

import time

import pytest

import fault_proxy
from imagetrain_trainer.storage import fetching, store, tuning

MIB = 1024 * 1024
SIZE = 32 * MIB
OPTIONS = fetching.FetchOptions(max_bytes=16 * MIB)


@pytest.fixture
def proxy(versitygw_s3, monkeypatch):
    with fault_proxy.running(versitygw_s3) as running:
        for name, value in running.server.environment().items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def objects(proxy):
    opened = store.open_store(f"s3://{proxy.server.create_bucket(f'tune-{time.monotonic_ns()}')}/data")
    opened.put("a", bytes(SIZE))
    return opened


def test_slow_connections_are_answered_by_more_of_them(objects, proxy):
    proxy.set(connection_bytes_per_second=4e6)
    started = time.monotonic()
    tuned = tuning.tune(objects, [("a", SIZE)], OPTIONS, seconds=6)
    assert time.monotonic() - started < 8
    assert tuned.part_bytes <= 2 * MIB
    assert tuned.limits.initial * tuned.part_bytes >= tuned.max_bytes
    assert tuned.max_bytes == OPTIONS.max_bytes


@pytest.mark.parametrize(
    ("speeds", "expected"),
    [
        ([100.0, 110.0, 120.0, 90.0], 0),  # noise
        ([100.0, 110.0, 126.0, 90.0], 2),
        ([100.0, 200.0, 300.0, 300.0], 2),  # the larger parts of two that are as fast
        ([0.0, 0.0, 0.0, 0.0], 0),  # nothing came in time
        ([0.0, 0.0, 1.0, 0.0], 2),
    ],
)
def test_the_given_size_stays_unless_another_is_clearly_faster(speeds, expected):
    assert tuning.pick(speeds) == expected


@pytest.mark.parametrize("fault", ["is_down", "is_silent"])
def test_a_store_that_does_not_answer_changes_nothing_and_fails_nothing(objects, proxy, fault):
    proxy.set(**{fault: True})
    assert tuning.tune(objects, [("a", SIZE)], OPTIONS, seconds=0.5) == OPTIONS


def test_a_store_that_refuses_changes_nothing_and_warns(objects, caplog):
    assert tuning.tune(objects, [("none", SIZE)], OPTIONS, seconds=0.5) == OPTIONS
    assert "the store could not be measured" in caplog.text


def test_a_folder_and_an_empty_data_set_are_not_measured(objects, tmp_path):
    started = time.monotonic()
    assert tuning.tune(store.open_store(str(tmp_path)), [("a", 1)], OPTIONS) == OPTIONS
    assert tuning.tune(objects, [("a", 0)], OPTIONS) == OPTIONS
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    ("part_bytes", "expected"),
    [(8 * MIB, 16), (2 * MIB, 16), (MIB, 16), (MIB // 2, 32), (MIB // 8, 64)],
)
def test_a_trial_asks_for_as_many_requests_as_the_bytes_under_way_allow(part_bytes, expected):
    trial = tuning.build_trial(OPTIONS, part_bytes)
    assert trial.limits.initial == expected
    assert trial.limits.most == OPTIONS.limits.most
