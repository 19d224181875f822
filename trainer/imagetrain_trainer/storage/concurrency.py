"""How many requests may be under way: additive increase, multiplicative decrease. Pure: the clock is an argument."""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrencyOptions:
    """The bounds of the number of requests under way."""

    initial: int = 16
    """At the start."""
    least: int = 1
    """However much the server throttles."""
    most: int = 64
    """However well it goes."""
    decrease: float = 0.7
    """Factor per throttled round trip, as in CUBIC (RFC 9438) and AWS's adaptive retry mode."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 1 <= self.least <= self.initial <= self.most:
            raise ValueError(
                "least, initial and most must be in this order and at least 1, "
                f"got {self.least}, {self.initial} and {self.most}."
            )
        if not 0 < self.decrease < 1:
            raise ValueError(f"decrease must be between 0 and 1, got {self.decrease!r}.")


class AdaptiveLimit:
    """A limit that grows by about one a round trip, and shrinks once for all requests that one overload throttles."""

    def __init__(self, options: ConcurrencyOptions) -> None:
        self._options = options
        self._limit = float(options.initial)
        self._decreased_at = float("-inf")

    @property
    def limit(self) -> int:
        """Requests that may be under way."""
        return int(self._limit)

    def note_success(self, under_way: int) -> None:
        """Grow, if the limit is what held more requests back.

        Args:
            under_way: requests, this one included.
        """
        if under_way >= self.limit:
            self._limit = min(float(self._options.most), self._limit + 1 / self._limit)

    def note_throttled(self, sent_at: float, now: float) -> bool:
        """Shrink, unless the request was sent before the last time; tell whether it did.

        Args:
            sent_at: when the request was sent, in seconds of any clock.
            now: the same clock.
        """
        if sent_at < self._decreased_at:
            return False
        self._limit = max(float(self._options.least), self._limit * self._options.decrease)
        self._decreased_at = now
        return True
