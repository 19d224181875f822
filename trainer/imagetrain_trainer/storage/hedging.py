"""When a second request for late bytes is sent: a moving latency quantile, a margin, and a budget. Pure: no clock here.

"The Tail at Scale" (Dean and Barroso, 2013) describes hedged requests; AWS advises them for S3's slowest 1%.
"""

import bisect
import collections
import dataclasses


class MovingQuantile:
    """Quantiles of the last `window` values. Adding one takes a binary search in a list of that length."""

    def __init__(self, window: int) -> None:
        self._sorted: list[float] = []
        self._recent: collections.deque[float] = collections.deque()
        self._window = window

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, value: float) -> None:
        """Take a value in, and let the oldest one go when the window is full."""
        if len(self._recent) == self._window:
            del self._sorted[bisect.bisect_left(self._sorted, self._recent.popleft())]
        self._recent.append(value)
        bisect.insort(self._sorted, value)

    def at(self, fraction: float) -> float:
        """Return the smallest value that at least `fraction` of the values do not exceed; 0 when there is none."""
        if not self._sorted:
            return 0.0
        return self._sorted[min(len(self._sorted) - 1, int(fraction * len(self._sorted)))]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HedgeOptions:
    """When to send a second request; `fraction` 0 switches hedging off."""

    fraction: float = 0.02
    """Hedges per request that the budget grows by."""
    burst: float = 8.0
    """Most hedges saved up, and what a new budget holds: in any run hedges <= fraction * requests + burst."""
    quantile: float = 0.95
    """Of recent latencies; past it the wait is unusual. Above 1 - fraction stalls themselves would stretch it."""
    margin: float = 2.0
    """Times the quantile that is waited, so that a little spread in latencies spends nothing."""
    least_seconds: float = 0.1
    """Shortest wait: a pause of this process is no fault of the server."""
    cold_seconds: float = 0.5
    """What is waited as long as fewer than `warmup` latencies are known."""
    warmup: int = 8
    """Latencies from which on the quantile counts."""
    window: int = 256
    """Latencies that are remembered."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("fraction", "quantile"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)!r}.")
        if self.burst < 0:
            raise ValueError(f"burst must be at least 0, got {self.burst!r}.")
        if self.margin < 1:
            raise ValueError(f"margin must be at least 1, got {self.margin!r}.")
        if not 1 <= self.warmup <= self.window:
            raise ValueError(f"warmup must be from 1 to window ({self.window}), got {self.warmup!r}.")


_LEAST_BODY_BYTES = 256 * 1024  # a smaller body comes along with the head, so its time says nothing of a rate


class HedgePolicy:
    """Learns how long answers take, and grants second requests within the budget."""

    def __init__(self, options: HedgeOptions) -> None:
        self._options = options
        self.first_bytes = MovingQuantile(options.window)
        """Seconds from a request to the first byte of its answer."""
        self._body_rates = MovingQuantile(options.window)
        self._tokens = options.burst if options.fraction else 0.0

    def note_request(self) -> None:
        """Count a request that is no hedge."""
        self._tokens = min(self._options.burst, self._tokens + self._options.fraction)

    def note_first_byte(self, seconds: float) -> None:
        """Count an answer's first byte, or a request that was given up after so long without."""
        self.first_bytes.add(seconds)

    def note_body(self, seconds: float, length: int) -> None:
        """Count a body of `length` bytes, or one that was given up after so long."""
        self._body_rates.add(seconds / max(length, _LEAST_BODY_BYTES))

    def first_byte_wait(self) -> float | None:
        """Return the seconds after a request at which its first byte is late; None without hedging."""
        return self._wait(self.first_bytes, 1)

    def body_wait(self, length: int) -> float | None:
        """Return the seconds after the first byte at which a body is late; None without hedging."""
        return self._wait(self._body_rates, max(length, _LEAST_BODY_BYTES))

    def _wait(self, latencies: MovingQuantile, scale: float) -> float | None:
        options = self._options
        if not options.fraction:
            return None
        if len(latencies) < options.warmup:
            return options.cold_seconds
        return max(options.least_seconds, options.margin * latencies.at(options.quantile) * scale)

    def try_spend(self) -> bool:
        """Take one hedge from the budget, if it holds one."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
