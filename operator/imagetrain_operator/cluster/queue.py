"""A queue of jobs that wait for a reconciliation: each at most once, delayed ones in time, failed ones with backoff.

The semantics are those of client-go's workqueue: a key that is added while it is worked on comes again afterwards.
"""

import asyncio
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable

from imagetrain_operator import observed

_FIRST_BACKOFF_SECONDS = 0.1
_MAX_BACKOFF_SECONDS = 60.0


class WorkQueue:
    """Keys to reconcile, for any number of asynchronous workers of one event loop."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ready: deque[observed.Key] = deque()
        self._waiting: set[observed.Key] = set()  # in `_ready`, or to be put there when its worker is done
        self._active: set[observed.Key] = set()
        self._delayed: list[tuple[float, int, observed.Key]] = []
        self._due: dict[observed.Key, float] = {}  # the earliest time of each delayed key
        self._order = itertools.count()
        self._failures: dict[observed.Key, int] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: observed.Key) -> None:
        """Ask for a reconciliation soon; asking twice is asking once."""
        if key in self._waiting:
            return
        self._waiting.add(key)
        if key not in self._active:
            self._ready.append(key)
            self._wake_one()

    def add_after(self, key: observed.Key, seconds: float) -> None:
        """Ask for a reconciliation later; the earliest of several times holds."""
        due = self._clock() + max(0.0, seconds)
        if self._due.get(key, float("inf")) <= due:
            return
        self._due[key] = due
        heapq.heappush(self._delayed, (due, next(self._order), key))
        if self._delayed[0][0] == due:
            self._set_timer()

    def retry(self, key: observed.Key, at_least_seconds: float = 0.0) -> float:
        """Ask for another try after a failure, each time later; return the delay in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        backoff = min(_FIRST_BACKOFF_SECONDS * 2.0 ** min(failures, 20), _MAX_BACKOFF_SECONDS)
        delay = max(backoff * random.uniform(0.5, 1.0), at_least_seconds)  # noqa: S311  # jitter, not a secret
        self.add_after(key, delay)
        return delay

    def forget(self, key: observed.Key) -> None:
        """Take the failures of a key as over."""
        self._failures.pop(key, None)

    def cancel(self, key: observed.Key) -> None:
        """Drop the delayed reconciliations of a job that is gone."""
        self._due.pop(key, None)
        self._failures.pop(key, None)

    async def get(self) -> observed.Key:
        """Wait for the next key; the caller says `done` afterwards."""
        while not self._ready:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        key = self._ready.popleft()
        self._waiting.discard(key)
        self._active.add(key)
        return key

    def done(self, key: observed.Key) -> None:
        """End the work on a key; it comes again if it was added meanwhile."""
        self._active.discard(key)
        if key in self._waiting:
            self._ready.append(key)
            self._wake_one()

    def _wake_one(self) -> None:
        """Wake one worker: all of them would find one key."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():  # its worker was cancelled
                waiter.set_result(None)
                return

    def _set_timer(self) -> None:
        """Add the keys whose time has come, and come again at the time of the next one."""
        next_due = self._move_due()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if next_due is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, next_due - self._clock()), self._set_timer)

    def _move_due(self) -> float | None:
        """Add the keys whose time has come; return the time of the next one."""
        now = self._clock()
        while self._delayed:
            due, _, key = self._delayed[0]
            if self._due.get(key) != due:  # replaced by an earlier time, or cancelled
                heapq.heappop(self._delayed)
            elif due <= now:
                heapq.heappop(self._delayed)
                del self._due[key]
                self.add(key)
            else:
                return due
        return None
