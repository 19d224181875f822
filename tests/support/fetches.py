"""What the tests of the fetcher read, and how they check it."""

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import s3_servers
from imagetrain_trainer.storage import fetch_counters, fetching, hedging, retrying, store

SIZE = 3_000_000
PART = 20_000
DATA = {name: random.Random(name).randbytes(SIZE) for name in ("a", "b")}
QUICK = retrying.RetryOptions(give_up_seconds=2, first_wait_seconds=0.02, longest_wait_seconds=0.2, per_second=200)
HEDGES = hedging.HedgeOptions()


def open_through(server: s3_servers.S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> store.ObjectStore:
    """Open the bucket with a server's keys."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    return store.open_store(f"s3://{bucket}/data")


def ranges(count: int, seed: int = 0) -> list[tuple[str, int, int]]:
    """Return different ranges, each with its key."""
    draw = random.Random(seed)
    return [(draw.choice("ab"), draw.randrange(SIZE - PART), PART) for _ in range(count)]


def read_all(fetcher: fetching.Fetcher, wanted: list[tuple[str, int, int]], timeout: float = 60) -> float:
    """Read ranges, compare every byte, and return the seconds that it took."""
    started = time.monotonic()
    futures = [fetcher.get(*place) for place in wanted]
    for (key, start, length), future in zip(wanted, futures, strict=True):
        assert future.result(timeout) == DATA[key][start : start + length]
    return time.monotonic() - started


def options(**fields: Any) -> fetching.FetchOptions:
    """Return options that give up early."""
    return fetching.FetchOptions(**{"retries": QUICK, "hedges": HEDGES, **fields})


def assert_within_budget(counters: fetch_counters.FetchCounters, hedge_options: hedging.HedgeOptions = HEDGES) -> None:
    """Check the number of hedges."""
    first_requests = counters.requests - counters.hedges
    assert counters.hedges <= hedge_options.fraction * first_requests + hedge_options.burst


def wait_until(condition: Callable[[], object], timeout: float = 10) -> bool:
    """Poll until a condition holds; False when it does not in time."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        pause.wait(0.02)
    return True
