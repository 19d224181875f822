"""What a run notices of a store that stalls, throttles, breaks, lies or vanishes: a fetcher against a real server.

Each test has a bucket of its own on versitygw, behind a fault proxy of its own.
"""

import concurrent.futures
import gc
import os
import pathlib
import random
import secrets
import threading
import time
import traceback
import warnings

import pytest

import fault_proxy
import s3_servers
from imagetrain_trainer import errors
from imagetrain_trainer.storage import concurrency, fetching, hedging, retrying, store

SIZE = 3_000_000
PART = 20_000
DATA = {name: random.Random(name).randbytes(SIZE) for name in ("a", "b")}
QUICK = retrying.RetryOptions(give_up_seconds=2, first_wait_seconds=0.02, longest_wait_seconds=0.2, per_second=200)
HEDGES = hedging.HedgeOptions()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3_servers.versitygw_server(tmp_path_factory.mktemp("fetching"), is_keeping_alive=True) as running:
        yield running


@pytest.fixture
def proxy(server):
    with fault_proxy.running(server) as running:
        yield running


@pytest.fixture
def bucket(server):
    name = server.create_bucket(f"fetch-{secrets.token_hex(4)}")
    for key, data in DATA.items():
        server.client().put_object(Bucket=name, Key=f"data/{key}", Body=data)
    return name


@pytest.fixture
def objects(proxy, bucket, monkeypatch):
    return open_through(proxy.server, bucket, monkeypatch)


def open_through(server, bucket, monkeypatch):
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    return store.open_store(f"s3://{bucket}/data")


def ranges(count, seed=0):
    """Return different ranges, each with its key."""
    draw = random.Random(seed)
    return [(draw.choice("ab"), draw.randrange(SIZE - PART), PART) for _ in range(count)]


def read_all(fetcher, wanted, timeout=60):
    """Read ranges, compare every byte, and return the seconds that it took."""
    started = time.monotonic()
    futures = [fetcher.get(*place) for place in wanted]
    for (key, start, length), future in zip(wanted, futures, strict=True):
        assert future.result(timeout) == DATA[key][start : start + length]
    return time.monotonic() - started


def options(**fields):
    return fetching.FetchOptions(**{"retries": QUICK, "hedges": HEDGES} | fields)


def assert_within_budget(counters, hedge_options=HEDGES):
    first_requests = counters.requests - counters.hedges
    assert counters.hedges <= hedge_options.fraction * first_requests + hedge_options.burst


# -- what comes back


@pytest.mark.parametrize("length", [1, 1000, 149_999, 150_000, 1_000_000, SIZE])
def test_ranges_come_back_exact_whether_one_request_or_many(objects, length):
    with fetching.Fetcher(objects, options(part_bytes=100_000)) as fetcher:
        for start in {0, SIZE - length}:
            data = fetcher.get("a", start, length).result(30)
            assert isinstance(data, memoryview)
            assert data == DATA["a"][start : start + length]
        assert fetcher.counters.bytes == length * len({0, SIZE - length})


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
    with fetching.Fetcher(objects, options()) as fetcher:
        read_all(fetcher, ranges(300))
        assert_within_budget(fetcher.counters)


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
    with fetching.Fetcher(objects, options()) as fetcher:
        read_all(fetcher, ranges(600))
        counters, seen = fetcher.counters, proxy.counts()
        assert_within_budget(counters)
    assert seen["gets"] == counters.requests
    assert counters.throttled <= seen["slow_downs"]
    assert counters.retries > 0
    assert min(seen[name] for name in ("stalls", "slow_downs", "errors", "resets", "truncations")) > 0


# -- hedges


def warm(fetcher, proxy):
    """Let the fetcher learn how long answers take, and save up its hedges."""
    read_all(fetcher, ranges(100, seed=9))


@pytest.mark.parametrize("fault", ["stall_fraction", "body_stall_fraction"])
def test_a_stalled_answer_is_overtaken_by_a_second_request(objects, proxy, fault):
    with fetching.Fetcher(objects, options()) as fetcher:
        warm(fetcher, proxy)
        wanted = ranges(100, seed=2)
        proxy.set(seed=3, stall_seconds=20, **{fault: 0.02})
        assert read_all(fetcher, wanted) < 10
        counters = fetcher.counters
        stalled = proxy.counts()["stalls"] + proxy.counts()["body_stalls"]
        assert 0 < stalled <= counters.hedges_won <= counters.hedges
        assert (counters.bytes_wasted > 0) == (fault == "body_stall_fraction")


def test_the_loser_of_a_race_is_ended_at_once(objects, proxy):
    before = proxy.counts()["open_connections"]  # the store's own
    with fetching.Fetcher(objects, options()) as fetcher:
        warm(fetcher, proxy)
        proxy.set(seed=3, stall_fraction=0.02, stall_seconds=60)
        read_all(fetcher, ranges(100, seed=2))
        assert proxy.counts()["stalls"] > 0
    assert wait_until(lambda: proxy.counts()["open_connections"] <= before)


def test_hedges_stay_within_their_budget_however_many_answers_stall(objects, proxy):
    few = hedging.HedgeOptions(least_seconds=0.02, burst=2, warmup=4)
    with fetching.Fetcher(objects, options(hedges=few)) as fetcher:
        warm(fetcher, proxy)
        proxy.set(stall_fraction=0.3, stall_seconds=0.4)
        read_all(fetcher, ranges(300, seed=2))
        counters = fetcher.counters
        assert_within_budget(counters, few)
        assert counters.hedges > 2


def test_hedging_can_be_switched_off(objects, proxy):
    with fetching.Fetcher(objects, options(hedges=hedging.HedgeOptions(fraction=0))) as fetcher:
        warm(fetcher, proxy)
        proxy.set(stall_fraction=0.05, stall_seconds=0.3)
        read_all(fetcher, ranges(100, seed=2))
        assert fetcher.counters.hedges == 0


# -- throttling and outages


def test_throttling_lowers_the_number_of_requests_and_success_raises_it(objects, proxy):
    limits = concurrency.ConcurrencyOptions(initial=16, most=20)
    with fetching.Fetcher(objects, options(limits=limits)) as fetcher:
        proxy.set(slow_down_fraction=0.5)
        read_all(fetcher, ranges(100))
        low = fetcher.counters
        assert low.concurrency_limit < 8
        assert low.throttled > 0
        proxy.clear()
        read_all(fetcher, ranges(400))
        assert fetcher.counters.concurrency_limit > low.concurrency_limit


@pytest.mark.parametrize("fault", ["is_down", "is_silent"])
def test_an_outage_shorter_than_the_limit_costs_only_time(objects, proxy, fault):
    retries = retrying.RetryOptions(give_up_seconds=30, longest_wait_seconds=0.5)
    with fetching.Fetcher(objects, options(retries=retries)) as fetcher:
        warm(fetcher, proxy)
        proxy.set(**{fault: True})
        futures = [fetcher.get(*place) for place in ranges(50)]
        done, _ = concurrent.futures.wait(futures, timeout=3)
        assert not done
        proxy.clear()
        for place, future in zip(ranges(50), futures, strict=True):
            assert future.result(60) == DATA[place[0]][place[1] : place[1] + PART]


def test_an_outage_ends_everything_that_waits_when_its_time_is_over_and_not_before(objects, proxy):
    with fetching.Fetcher(objects, options()) as fetcher:
        warm(fetcher, proxy)
        proxy.set(is_down=True)
        started = time.monotonic()
        futures = [fetcher.get(*place) for place in ranges(100)]
        for future in futures:
            with pytest.raises(errors.StorageUnavailableError, match=r"cannot read s3://fetch-\w+/data/[ab]: http://"):
                future.result(60)
            assert time.monotonic() - started >= QUICK.give_up_seconds
        assert time.monotonic() - started < 4 * QUICK.give_up_seconds
        proxy.clear()
        read_all(fetcher, ranges(20))  # it may go on: nothing is remembered against the store


def test_a_server_that_never_answers_is_given_up_in_time(objects, proxy):
    retries = retrying.RetryOptions(give_up_seconds=1)
    with fetching.Fetcher(objects, options(retries=retries)) as fetcher:
        proxy.set(is_silent=True)
        started = time.monotonic()
        with pytest.raises(errors.StorageUnavailableError):
            fetcher.get("a", 0, PART).result(60)
        assert time.monotonic() - started < 25  # one lost connection takes 10 s to show, and the last try another


# -- what no retry can help


def test_a_missing_object_and_a_short_one_are_told_at_once(objects):
    with fetching.Fetcher(objects) as fetcher:
        with pytest.raises(errors.ObjectNotFoundError, match=r"data/none does not exist"):
            fetcher.get("none", 0, 10).result(30)
        for start in (SIZE - 5, SIZE, SIZE + 100):
            message = rf"data/a must hold bytes {start} to {start + 9}, but it is shorter: it was truncated"
            with pytest.raises(errors.DataCorruptError, match=message):
                fetcher.get("a", start, 10).result(30)
        assert fetcher.counters.retries == 0


def test_a_bucket_deleted_during_the_run_is_named(objects, bucket, server):
    with fetching.Fetcher(objects) as fetcher:
        read_all(fetcher, ranges(10))
        client = server.client()
        for key in DATA:
            client.delete_object(Bucket=bucket, Key=f"data/{key}")
        client.delete_bucket(Bucket=bucket)
        with pytest.raises(errors.BucketNotFoundError, match=f"bucket s3://{bucket} does not exist"):
            fetcher.get("a", 0, 10).result(30)


def test_an_object_replaced_during_the_run_never_mixes_with_the_old_one(objects, bucket, server):
    with fetching.Fetcher(objects) as fetcher:
        read_all(fetcher, ranges(10))
        server.client().put_object(Bucket=bucket, Key="data/a", Body=DATA["a"][::-1])
        with pytest.raises(errors.DataCorruptError, match=r"data/a must stay as it is .* replaced during the run"):
            fetcher.get("a", 0, PART).result(30)
        assert fetcher.get("b", 0, PART).result(30) == DATA["b"][:PART]
    with fetching.Fetcher(objects) as fetcher:  # a new run takes what is there
        assert fetcher.get("a", 0, PART).result(30) == DATA["a"][::-1][:PART]


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
        read_all(fetcher, ranges(20))
        key_file(new)
        server._admin("delete-user", "--access", old.access_key)
        read_all(fetcher, ranges(40))
        assert fetcher.counters.renewals == 1
        assert fetcher.counters.retries == 0


def test_a_key_that_expires_for_good_is_denied_after_one_look_for_a_newer_one(key_file, bucket, server):
    user = server.create_read_only_user(bucket)
    key_file(user)
    with fetching.Fetcher(store.open_store(f"s3://{bucket}/data")) as fetcher:
        read_all(fetcher, ranges(20))
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


# -- order, bounds and the end


def test_what_is_needed_first_is_asked_for_first(objects, proxy):
    proxy.set(first_byte_delay_seconds=0.05)
    limits = concurrency.ConcurrencyOptions(initial=1, most=1)
    order = []
    with fetching.Fetcher(objects, options(limits=limits)) as fetcher:
        first = fetcher.get("a", 0, 10)
        futures = []
        for priority in (5, 3, 4, 1, 2, 3):
            futures.append(fetcher.get("a", 0, 10, priority))
            number = len(futures)
            futures[-1].add_done_callback(lambda _, place=(priority, number): order.append(place))
        concurrent.futures.wait([first, *futures], timeout=30)
    assert order == sorted(order)
    assert len(order) == 6


def test_bytes_under_way_are_bounded(objects, proxy):
    proxy.set(first_byte_delay_seconds=0.1)
    with fetching.Fetcher(objects, options(max_bytes=3 * PART)) as fetcher:
        futures = [fetcher.get(*place) for place in ranges(30)]
        most = 0
        while not all(future.done() for future in futures):
            counters = fetcher.counters
            most = max(most, counters.bytes_under_way)
            assert counters.bytes_under_way == counters.under_way * PART
            concurrent.futures.wait(futures, timeout=0.01)
        assert most == 3 * PART
        assert fetcher.get("a", 0, 10 * PART).result(30) == DATA["a"][: 10 * PART]  # larger than all: alone
    assert proxy.counts()["most_open_connections"] <= 4


def test_closing_ends_fifty_requests_under_way_at_once(objects, proxy):
    proxy.set(stall_fraction=1, stall_seconds=60)
    limits = concurrency.ConcurrencyOptions(initial=50, most=50)
    before = proxy.counts()["open_connections"]  # the store's own
    fetcher = fetching.Fetcher(objects, options(limits=limits))
    futures = [fetcher.get(*place) for place in ranges(80)]
    assert wait_until(lambda: proxy.counts()["stalls"] == 50)
    started = time.monotonic()
    fetcher.close()
    assert time.monotonic() - started < 1
    assert all(future.cancelled() for future in futures)
    assert wait_until(lambda: proxy.counts()["open_connections"] <= before)
    fetcher.close()  # again is fine
    with pytest.raises(RuntimeError, match="is closed"):
        fetcher.get("a", 0, 1)


def test_cancelling_a_future_ends_its_request_and_makes_room(objects, proxy):
    proxy.set(stall_fraction=1, stall_seconds=60)
    limits = concurrency.ConcurrencyOptions(initial=2, most=2)
    with fetching.Fetcher(objects, options(limits=limits)) as fetcher:
        stuck = [fetcher.get(*place) for place in ranges(4)]
        assert wait_until(lambda: proxy.counts()["stalls"] == 2)
        proxy.clear()
        assert all(future.cancel() for future in stuck)
        read_all(fetcher, ranges(4))
        assert wait_until(lambda: fetcher.counters.under_way == 0)


def test_many_fetchers_leave_no_thread_and_no_connection(objects, proxy, monkeypatch):
    before = proxy.counts()["open_connections"]  # the store's own
    read_once(objects)  # starts what lives as long as the process: obstore's own threads
    proxy.set(reset_fraction=0.1, stall_fraction=0.05, stall_seconds=1)
    threads, files = threading.active_count(), count_open_files()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(8):
            read_once(objects)
        gc.collect()
    assert [str(warning.message) for warning in caught] == []
    assert threading.active_count() == threads
    assert wait_until(lambda: count_open_files() <= files)
    assert wait_until(lambda: proxy.counts()["open_connections"] <= before)


def read_once(objects):
    with fetching.Fetcher(objects, options()) as fetcher:
        futures = [fetcher.get(*place) for place in ranges(60)]
        concurrent.futures.wait(futures[:20], timeout=30)


def count_open_files():
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough


def wait_until(condition, timeout=10):
    """Poll until a condition holds; False when it does not in time."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        pause.wait(0.02)
    return True


# -- folders


@pytest.fixture
def folder(tmp_path):
    for key, data in DATA.items():
        (tmp_path / key).write_bytes(data)
    return tmp_path


def test_a_folder_reads_as_a_bucket_does(folder):
    with fetching.Fetcher(store.open_store(str(folder)), options(part_bytes=100_000)) as fetcher:
        read_all(fetcher, ranges(200))
        assert fetcher.get("a", 0, SIZE).result(10) == DATA["a"]
        assert fetcher.counters.hedges == 0
        with pytest.raises(errors.ObjectNotFoundError, match="none does not exist"):
            fetcher.get("none", 0, 1).result(10)
        with pytest.raises(errors.DataCorruptError, match=f"must hold bytes {SIZE - 5} to {SIZE + 4}, but it is short"):
            fetcher.get("a", SIZE - 5, 10).result(10)


def test_a_file_replaced_or_changed_during_the_run_is_told(folder):
    def rename_another_over(path: pathlib.Path):
        path.with_suffix(".new").write_bytes(DATA["a"])
        path.with_suffix(".new").replace(path)

    def write_into(path: pathlib.Path):
        with path.open("r+b") as file:
            file.write(b"x")

    for change in (rename_another_over, write_into):
        (folder / "a").write_bytes(DATA["a"])
        with fetching.Fetcher(store.open_store(str(folder))) as fetcher:
            fetcher.get("a", 0, 10).result(10)
            change(folder / "a")
            with pytest.raises(errors.DataCorruptError, match=r"a must stay as it is .* replaced during the run"):
                fetcher.get("a", 0, 10).result(10)


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (1, [1]),
        (100, [100]),
        (149, [149]),  # a little more than a part stays whole: its bytes need not be copied together
        (151, [75, 76]),
        (200, [100, 100]),
        (1000, [100] * 10),
        (1001, [100] * 9 + [101]),
    ],
)
def test_a_range_is_cut_evenly_into_parts_of_about_their_size(length, expected):
    parts = fetching.plan_parts("a", 7, length, 100)
    assert sorted(part.length for part in parts) == expected
    assert [part.start for part in parts] == [7 + sum(p.length for p in parts[:number]) for number in range(len(parts))]
