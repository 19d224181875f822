"""When a failed read is tried again, and when it is given up. Pure: clock and randomness are arguments.

Waits have full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015). A read is given up by time and
never by count, so that an outage shorter than `give_up_seconds` costs time alone.
"""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RetryOptions:
    """How failed reads are tried again."""

    give_up_seconds: float = 60.0
    """From a read's first failure, or from the beginning of an outage of everything."""
    first_wait_seconds: float = 0.1
    """Longest wait after the first failure; it doubles with each further one."""
    longest_wait_seconds: float = 3.0
    """Longest wait of all; after an outage reads go on within it."""
    per_second: float = 10.0
    """Retries that the budget grows by each second; a retry past it waits for its turn."""
    burst: float = 32.0
    """Most retries that may be saved up."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("give_up_seconds", "first_wait_seconds", "longest_wait_seconds", "per_second"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)!r}.")
        if self.burst < 1:
            raise ValueError(f"burst must be at least 1, got {self.burst!r}.")


class RetryPolicy:
    """Paces the retries of all reads together and knows since when nothing has succeeded."""

    def __init__(self, options: RetryOptions) -> None:
        self._options = options
        self._tokens = options.burst
        self._counted_at: float | None = None
        self._outage_since: float | None = None
        self._last_failure = float("-inf")

    def note_success(self) -> None:
        """End the outage, if there was one."""
        self._outage_since = None

    def deadline(self, first_failure: float) -> float:
        """Return when a read that failed first at `first_failure` is given up at the latest, on the same clock."""
        return first_failure + self._options.give_up_seconds

    def plan_retry(self, first_failure: float, failures: int, now: float, random: float) -> float | None:
        """Return the seconds to wait before the next try; None when the read is to be given up.

        Args:
            first_failure: when this read failed first.
            failures: how often it has failed, at least 1.
            now: the same clock, right after the last failure.
            random: from 0 to 1, uniform.
        """
        give_up_seconds = self._options.give_up_seconds
        if self._outage_since is None or now - self._last_failure > give_up_seconds:
            self._outage_since = first_failure  # the last failure is too long ago to belong to this outage
        self._last_failure = now
        left = min(first_failure, self._outage_since) + give_up_seconds - now
        if left <= 0:
            return None
        most = min(self._options.longest_wait_seconds, self._options.first_wait_seconds * 2.0 ** min(failures - 1, 30))
        return min(left, max(random * most, self._reserve(now)))

    def _reserve(self, now: float) -> float:
        """Take a token, which may be a future one; return the seconds until it is there."""
        options = self._options
        if self._counted_at is not None:
            self._tokens = min(options.burst, self._tokens + (now - self._counted_at) * options.per_second)
        self._counted_at = now
        self._tokens -= 1
        return max(0.0, -self._tokens / options.per_second)
