"""Requests to stop: signals to the command, and its deadline."""

import contextlib
import signal
import types
from collections.abc import Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequests:
    """Counts the requests; `cause` says what the newest one was."""

    def __init__(self, deadline_at: float | None) -> None:
        self._deadline_at = deadline_at
        self._signals = 0
        self._last_signal = 0
        self._is_deadline_over = False

    def note_signal(self, number: int, _frame: types.FrameType | None) -> None:
        """Count one signal (a handler: it must not do more)."""
        self._signals += 1
        self._last_signal = number

    def count(self, now: float) -> int:
        """Return the requests so far; the deadline counts once."""
        if self._deadline_at is not None and now >= self._deadline_at:
            self._is_deadline_over = True
        return self._signals + self._is_deadline_over

    @property
    def cause(self) -> str:
        """What asked for the stop, in words."""
        if self._last_signal:
            return "interrupted" if self._last_signal == signal.SIGINT else signal.Signals(self._last_signal).name
        return "deadline reached"


@contextlib.contextmanager
def stop_requests(deadline_at: float | None) -> Iterator[StopRequests]:
    """Catch SIGINT, SIGTERM and SIGHUP inside the block; only the main thread may call this."""
    requests = StopRequests(deadline_at)
    before = {number: signal.signal(number, requests.note_signal) for number in _SIGNALS}
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
