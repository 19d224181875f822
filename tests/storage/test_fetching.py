"""What a run notices of a store that stalls, throttles, breaks, lies or vanishes: a fetcher against a real server.

Each test has a bucket of its own on versitygw, behind a fault proxy of its own.
"""

import concurrent.futures
import time
import traceback

import pytest

import fetches
from imagetrain_trainer import errors
from imagetrain_trainer.storage import concurrency, fetching, hedging, retrying, store

# -- what comes back


@pytest.mark.parametrize("length", [1, 1000, 149_999, 150_000, 1_000_000, fetches.SIZE])
def test_ranges_come_back_exact_whether_one_request_or_many(objects, length):
    with fetching.Fetcher(objects, fetches.options(part_bytes=100_000)) as fetcher:
        for start in {0, fetches.SIZE - length}:
            data = fetcher.get("a", start, length).result(30)
            assert isinstance(data, memoryview)
            assert data == fetches.DATA["a"][start : start + length]
        assert fetcher.counters.bytes == length * len({0, fetches.SIZE - length})


@pytest.mark.parametrize(("start", "length"), [(-1, 1), (0, 0), (0, -1)])
def test_an_impossible_range_is_refused_at_once(objects, start, length):
    with fetching.Fetcher(objects) as fetcher, pytest.raises(ValueError, match="range must start at 0 or later"):
        fetcher.get("a", start, length)


# -- each fault alone, and all together

FAULTS = [
    {"slow_down_fraction": 0.1},
    {"error_fraction": 0.1},
    {"reset_fraction": 0.1},
    {"truncate_fraction": 0.1},
    {"stall_fraction": 0.02, "stall_seconds": 1.5},
    {"body_stall_fraction": 0.02, "stall_seconds": 1.5},
    {"first_byte_delay_seconds": 0.1, "first_byte_jitter_seconds": 0.05},
    {"bytes_per_second": 10e6},
]


@pytest.mark.parametrize("faults", FAULTS, ids=lambda faults: next(iter(faults)))
def test_each_fault_costs_time_and_no_byte(objects, proxy, faults):
    proxy.set(seed=1, **faults)
    with fetching.Fetcher(objects, fetches.options()) as fetcher:
        fetches.read_all(fetcher, fetches.ranges(300))
        fetches.assert_within_budget(fetcher.counters)


def test_all_faults_together_cost_time_and_no_byte(objects, proxy):
    proxy.set(
        first_byte_delay_seconds=0.05,
        stall_fraction=0.02,
        body_stall_fraction=0.01,
        stall_seconds=1.5,
        slow_down_fraction=0.02,
        error_fraction=0.02,
        reset_fraction=0.02,
        truncate_fraction=0.02,
    )
    with fetching.Fetcher(objects, fetches.options()) as fetcher:
        fetches.read_all(fetcher, fetches.ranges(600))
        counters, seen = fetcher.counters, proxy.counts()
        fetches.assert_within_budget(counters)
    # A hedge that loses as soon as it has begun may never leave this machine.
    assert counters.requests - (counters.hedges - counters.hedges_won) <= seen["gets"] <= counters.requests
    assert counters.throttled <= seen["slow_downs"]
    assert counters.retries > 0
    assert min(seen[name] for name in ("stalls", "slow_downs", "errors", "resets", "truncations")) > 0


# -- hedges


def warm(fetcher, proxy):
    """Let the fetcher learn how long answers take, and save up its hedges."""
    fetches.read_all(fetcher, fetches.ranges(100, seed=9))


@pytest.mark.parametrize("fault", ["stall_fraction", "body_stall_fraction"])
def test_a_stalled_answer_is_overtaken_by_a_second_request(objects, proxy, fault):
    with fetching.Fetcher(objects, fetches.options()) as fetcher:
        warm(fetcher, proxy)
        wanted = fetches.ranges(100, seed=2)
        proxy.set(seed=3, stall_seconds=20, **{fault: 0.02})
        assert fetches.read_all(fetcher, wanted) < 10
        counters = fetcher.counters
        stalled = proxy.counts()["stalls"] + proxy.counts()["body_stalls"]
        assert 0 < stalled <= counters.hedges_won <= counters.hedges
        assert (counters.bytes_wasted > 0) == (fault == "body_stall_fraction")


def test_the_loser_of_a_race_is_ended_at_once(objects, proxy):
    before = proxy.counts()["open_connections"]  # the store's own
    with fetching.Fetcher(objects, fetches.options()) as fetcher:
        warm(fetcher, proxy)
        proxy.set(seed=3, stall_fraction=0.02, stall_seconds=60)
        fetches.read_all(fetcher, fetches.ranges(100, seed=2))
        assert proxy.counts()["stalls"] > 0
    assert fetches.wait_until(lambda: proxy.counts()["open_connections"] <= before)


def test_hedges_stay_within_their_budget_however_many_answers_stall(objects, proxy):
    few = hedging.HedgeOptions(least_seconds=0.02, burst=2, warmup=4)
    with fetching.Fetcher(objects, fetches.options(hedges=few)) as fetcher:
        warm(fetcher, proxy)
        proxy.set(stall_fraction=0.3, stall_seconds=0.4)
        fetches.read_all(fetcher, fetches.ranges(300, seed=2))
        counters = fetcher.counters
        fetches.assert_within_budget(counters, few)
        assert counters.hedges > 2


def test_hedging_can_be_switched_off(objects, proxy):
    with fetching.Fetcher(objects, fetches.options(hedges=hedging.HedgeOptions(fraction=0))) as fetcher:
        warm(fetcher, proxy)
        proxy.set(stall_fraction=0.05, stall_seconds=0.3)
        fetches.read_all(fetcher, fetches.ranges(100, seed=2))
        assert fetcher.counters.hedges == 0


# -- throttling and outages


def test_throttling_lowers_the_number_of_requests_and_success_raises_it(objects, proxy):
    limits = concurrency.ConcurrencyOptions(initial=16, most=20)
    with fetching.Fetcher(objects, fetches.options(limits=limits)) as fetcher:
        proxy.set(slow_down_fraction=0.5)
        fetches.read_all(fetcher, fetches.ranges(100))
        low = fetcher.counters
        assert low.concurrency_limit < 8
        assert low.throttled > 0
        proxy.clear()
        fetches.read_all(fetcher, fetches.ranges(400))
        assert fetcher.counters.concurrency_limit > low.concurrency_limit


@pytest.mark.parametrize("fault", ["is_down", "is_silent"])
def test_an_outage_shorter_than_the_limit_costs_only_time(objects, proxy, fault):
    retries = retrying.RetryOptions(give_up_seconds=30, longest_wait_seconds=0.5)
    with fetching.Fetcher(objects, fetches.options(retries=retries)) as fetcher:
        warm(fetcher, proxy)
        proxy.set(**{fault: True})
        futures = [fetcher.get(*place) for place in fetches.ranges(50)]
        done, _ = concurrent.futures.wait(futures, timeout=3)
        assert not done
        proxy.clear()
        for place, future in zip(fetches.ranges(50), futures, strict=True):
            assert future.result(60) == fetches.DATA[place[0]][place[1] : place[1] + fetches.PART]


def test_an_outage_ends_everything_that_waits_when_its_time_is_over_and_not_before(objects, proxy):
    with fetching.Fetcher(objects, fetches.options()) as fetcher:
        warm(fetcher, proxy)
        proxy.set(is_down=True)
        started = time.monotonic()
        futures = [fetcher.get(*place) for place in fetches.ranges(100)]
        for future in futures:
            with pytest.raises(errors.StorageUnavailableError, match=r"cannot read s3://fetch-\w+/data/[ab]: http://"):
                future.result(60)
            assert time.monotonic() - started >= fetches.QUICK.give_up_seconds
        assert time.monotonic() - started < 4 * fetches.QUICK.give_up_seconds
        proxy.clear()
        fetches.read_all(fetcher, fetches.ranges(20))  # it may go on: nothing is remembered against the store


def test_a_server_that_never_answers_is_given_up_in_time(objects, proxy):
    retries = retrying.RetryOptions(give_up_seconds=1)
    with fetching.Fetcher(objects, fetches.options(retries=retries)) as fetcher:
        proxy.set(is_silent=True)
        started = time.monotonic()
        with pytest.raises(errors.StorageUnavailableError):
            fetcher.get("a", 0, fetches.PART).result(60)
        assert time.monotonic() - started < 25  # one lost connection takes 10 s to show, and the last try another


# -- what no retry can help


def test_a_missing_object_and_a_short_one_are_told_at_once(objects):
    with fetching.Fetcher(objects) as fetcher:
        with pytest.raises(errors.ObjectNotFoundError, match=r"data/none does not exist"):
            fetcher.get("none", 0, 10).result(30)
        for start in (fetches.SIZE - 5, fetches.SIZE, fetches.SIZE + 100):
            message = rf"data/a must hold bytes {start} to {start + 9}, but it is shorter: it was truncated"
            with pytest.raises(errors.DataCorruptError, match=message):
                fetcher.get("a", start, 10).result(30)
        assert fetcher.counters.retries == 0


def test_a_bucket_deleted_during_the_run_is_named(objects, bucket, server):
    with fetching.Fetcher(objects) as fetcher:
        fetches.read_all(fetcher, fetches.ranges(10))
        client = server.client()
        for key in fetches.DATA:
            client.delete_object(Bucket=bucket, Key=f"data/{key}")
        client.delete_bucket(Bucket=bucket)
        with pytest.raises(errors.BucketNotFoundError, match=f"bucket s3://{bucket} does not exist"):
            fetcher.get("a", 0, 10).result(30)


def test_an_object_replaced_during_the_run_never_mixes_with_the_old_one(objects, bucket, server):
    with fetching.Fetcher(objects) as fetcher:
        fetches.read_all(fetcher, fetches.ranges(10))
        server.client().put_object(Bucket=bucket, Key="data/a", Body=fetches.DATA["a"][::-1])
        with pytest.raises(errors.DataCorruptError, match=r"data/a must stay as it is .* replaced during the run"):
            fetcher.get("a", 0, fetches.PART).result(30)
        assert fetcher.get("b", 0, fetches.PART).result(30) == fetches.DATA["b"][: fetches.PART]
    with fetching.Fetcher(objects) as fetcher:  # a new run takes what is there
        assert fetcher.get("a", 0, fetches.PART).result(30) == fetches.DATA["a"][::-1][: fetches.PART]


# -- keys


@pytest.fixture
def key_file(proxy, bucket, monkeypatch, tmp_path):
    """Let the key come from a credentials file; return a function that puts another user's there."""
    path = tmp_path / "credentials"
    for name, value in proxy.server.environment().items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    def write(user):
        path.write_text(f"[default]\naws_access_key_id={user.access_key}\naws_secret_access_key={user.secret_key}\n")

    return write


def test_a_key_that_is_rotated_during_the_run_is_read_anew(key_file, proxy, bucket, server):
    old, new = server.create_read_only_user(bucket), server.create_read_only_user(bucket)
    allow(server, bucket, old, new)
    key_file(old)
    with fetching.Fetcher(store.open_store(f"s3://{bucket}/data")) as fetcher:
        fetches.read_all(fetcher, fetches.ranges(20))
        key_file(new)
        server._admin("delete-user", "--access", old.access_key)
        fetches.read_all(fetcher, fetches.ranges(40))
        assert fetcher.counters.renewals == 1
        assert fetcher.counters.retries == 0


def test_a_key_that_expires_for_good_is_denied_after_one_look_for_a_newer_one(key_file, bucket, server):
    user = server.create_read_only_user(bucket)
    key_file(user)
    with fetching.Fetcher(store.open_store(f"s3://{bucket}/data")) as fetcher:
        fetches.read_all(fetcher, fetches.ranges(20))
        server._admin("delete-user", "--access", user.access_key)
        with pytest.raises(errors.AccessDeniedError, match="the server refused the access key") as e:
            fetcher.get("a", 0, 10).result(30)
        assert fetcher.counters.renewals == 1
    text = "".join(traceback.format_exception(e.value))
    assert user.access_key not in text
    assert user.secret_key not in text


def allow(server, bucket, *users):
    """Let several users read a bucket."""
    policy = server.client().get_bucket_policy(Bucket=bucket)["Policy"]
    for user in users[:-1]:
        policy = policy.replace(f'"{users[-1].access_key}"', f'"{users[-1].access_key}", "{user.access_key}"')
    server.client().put_bucket_policy(Bucket=bucket, Policy=policy)
