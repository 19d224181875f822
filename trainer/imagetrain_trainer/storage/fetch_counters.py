"""What a fetcher has done so far, as numbers for metrics and reports."""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FetchCounters:
    """A snapshot; counts grow only, gauges are of the moment."""

    requests: int = 0
    """Requests sent, hedges and retries included."""
    hedges: int = 0
    """Second requests for late bytes."""
    hedges_won: int = 0
    """Hedges that answered first."""
    retries: int = 0
    """Requests sent after a failure."""
    throttled: int = 0
    """Answers 503 SlowDown or 429."""
    renewals: int = 0
    """Times that credentials were looked for anew."""
    bytes: int = 0
    """Bytes handed out."""
    bytes_wasted: int = 0
    """Bytes that came or were under way for requests that lost or failed, at most."""
    latency_p50_seconds: float = 0.0
    """Median of the recent seconds to the first byte."""
    latency_p99_seconds: float = 0.0
    """Their 99th percentile; requests that were given up count with the time they were waited for."""
    concurrency_limit: int = 0
    """Gauge: requests that may be under way."""
    under_way: int = 0
    """Gauge: parts being read."""
    bytes_under_way: int = 0
    """Gauge: their bytes."""
    queued: int = 0
    """Gauge: parts that wait for their turn."""


@dataclasses.dataclass(slots=True, kw_only=True)
class Tally:
    """The counts as they grow, on the fetcher's own thread alone."""

    requests: int = 0
    hedges: int = 0
    hedges_won: int = 0
    retries: int = 0
    throttled: int = 0
    renewals: int = 0
    bytes: int = 0
    bytes_wasted: int = 0
