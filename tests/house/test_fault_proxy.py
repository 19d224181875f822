"""The fault proxy does what it counts, and nothing while no fault is set."""

import collections.abc
import concurrent.futures
import pathlib
import time
import urllib.request

import botocore.exceptions
import pytest

import fault_proxy
import s3_servers

BODY = bytes(range(256)) * 4096
KEY = "folder/object"

Proxy = fault_proxy.FaultProxy[s3_servers.VersitygwServer]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> collections.abc.Iterator[s3_servers.VersitygwServer]:
    with s3_servers.versitygw_server(tmp_path_factory.mktemp("server"), is_keeping_alive=True) as running:
        running.create_bucket("data")
        running.client().put_object(Bucket="data", Key=KEY, Body=BODY)
        yield running


@pytest.fixture
def proxy(
    server: s3_servers.VersitygwServer,
) -> collections.abc.Iterator[Proxy]:
    with fault_proxy.running(server) as running:
        yield running


def get(proxy: Proxy, start: int = 0, stop: int = len(BODY)) -> bytes:
    answer = proxy.server.client().get_object(Bucket="data", Key=KEY, Range=f"bytes={start}-{stop - 1}")
    return answer["Body"].read()


def outcome(proxy: Proxy, start: int) -> str:
    try:
        data = get(proxy, start, start + 1000)
    except Exception as e:  # noqa: BLE001 - the name is the outcome
        return type(e).__name__
    return "right" if data == BODY[start : start + 1000] else "wrong"


def test_requests_pass_unharmed_with_their_signatures(proxy: Proxy) -> None:
    client = proxy.server.client()
    assert get(proxy) == BODY
    client.put_object(Bucket="data", Key="copy", Body=BODY * 4)
    assert client.get_object(Bucket="data", Key="copy")["Body"].read() == BODY * 4
    assert {entry["Key"] for entry in client.list_objects_v2(Bucket="data")["Contents"]} == {"copy", KEY}
    client.delete_object(Bucket="data", Key="copy")
    counts = proxy.counts()
    assert counts["gets"] == 2
    assert counts["requests"] == 5


def test_a_connection_serves_many_requests(proxy: Proxy) -> None:
    client = proxy.server.client()
    for _ in range(5):
        client.get_object(Bucket="data", Key=KEY)["Body"].read()
    assert proxy.counts()["connections"] == 1


@pytest.mark.parametrize(
    ("faults", "count", "expected"),
    [
        ({"slow_down_fraction": 1}, "slow_downs", "ClientError"),
        ({"error_fraction": 1}, "errors", "ClientError"),
        ({"flip_fraction": 1}, "flips", "wrong"),
        ({"truncate_fraction": 1}, "truncations", "ResponseStreamingError"),
        ({"stall_fraction": 1, "stall_seconds": 0.3}, "stalls", "right"),
        ({"body_stall_fraction": 1, "stall_seconds": 0.3}, "body_stalls", "right"),
    ],
)
def test_each_fault_does_what_it_says(proxy: Proxy, faults: dict[str, float], count: str, expected: str) -> None:
    proxy.set(**faults)
    started = time.monotonic()
    assert outcome(proxy, 0) == expected
    assert proxy.counts()[count] == 1
    assert time.monotonic() - started >= (0.3 if "stall" in count else 0)
    proxy.clear()
    assert get(proxy) == BODY


def test_resets_hit_before_the_answer_and_within_it(proxy: Proxy) -> None:
    proxy.set(reset_fraction=1)
    outcomes = {outcome(proxy, start) for start in range(0, 16000, 1000)}
    assert outcomes == {"ConnectionClosedError", "ResponseStreamingError"}


def test_a_first_byte_comes_late_and_other_requests_do_not(proxy: Proxy) -> None:
    proxy.set(first_byte_delay_seconds=0.5)
    started = time.monotonic()
    proxy.server.client().head_object(Bucket="data", Key=KEY)
    assert time.monotonic() - started < 0.5
    assert get(proxy) == BODY
    assert time.monotonic() - started >= 0.5


def test_bandwidth_is_shared_by_all_connections(proxy: Proxy) -> None:
    proxy.set(bytes_per_second=4 * len(BODY))
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: get(proxy) == BODY, range(4))) == [True] * 4
    assert time.monotonic() - started >= 0.7


def test_each_connection_can_have_its_own_bandwidth(proxy: Proxy) -> None:
    proxy.set(connection_bytes_per_second=2 * len(BODY))
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: get(proxy) == BODY, range(4))) == [True] * 4
    assert 0.4 <= time.monotonic() - started < 2


def test_another_run_meets_the_same_faults_in_any_order(server: s3_servers.VersitygwServer) -> None:
    faults = {"slow_down_fraction": 0.3, "flip_fraction": 0.3, "seed": 7}
    starts = list(range(0, 30_000, 1000))
    runs = []
    for order in (starts, starts[::-1]):
        with fault_proxy.running(server) as proxy:
            proxy.set(**faults)
            runs.append({start: outcome(proxy, start) for start in order})
    assert runs[0] == runs[1]
    assert set(runs[0].values()) == {"right", "wrong", "ClientError"}


def test_an_endpoint_that_is_down_resets_everything_and_comes_back(proxy: Proxy) -> None:
    client = proxy.server.client()
    client.get_object(Bucket="data", Key=KEY)["Body"].read()
    proxy.set(is_down=True)
    for _ in range(2):  # the connection that was open, and a new one
        with pytest.raises(botocore.exceptions.BotoCoreError):
            client.get_object(Bucket="data", Key=KEY)
    proxy.clear()
    assert get(proxy) == BODY


def test_a_silent_endpoint_never_answers(proxy: Proxy) -> None:
    proxy.set(is_silent=True)
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(proxy.server.endpoint_url, timeout=0.3)
    assert proxy.counts()["silences"] == 1


def test_the_process_ends_with_its_context(server: s3_servers.VersitygwServer) -> None:
    with fault_proxy.running(server) as proxy:
        pid = proxy.pid
        assert proxy.cpu_seconds() > 0
    assert not pathlib.Path(f"/proc/{pid}").exists()
