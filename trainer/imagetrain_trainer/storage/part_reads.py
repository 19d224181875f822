"""One part of a fetch from its first request to its bytes: hedges, retries and renewed credentials.

Everything here runs on one event loop's thread. `fetching` decides which part's turn it is.
"""

import asyncio
import dataclasses
import random
from collections.abc import Callable
from typing import Any

from imagetrain_trainer import errors
from imagetrain_trainer.storage import concurrency, fetch_counters, hedging, local, range_reads, retrying

_WATCH_SECONDS = 0.01  # how exactly lateness is seen; looking through 64 requests takes 10 microseconds
_LAST_TRY_SECONDS = 5.0  # what the try at the end of a part's time may take


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """Bytes `start` to `start + length` of an object."""

    key: str
    start: int
    length: int


@dataclasses.dataclass(slots=True)
class Trouble:
    """What went wrong with a part so far."""

    first_at: float
    """When, on the loop's clock."""
    last: range_reads.ReadFailedError
    failures: int = 0


class PartReader:
    """Reads parts; all of them share what is learned of the server."""

    def __init__(
        self,
        reads: range_reads.RangeReads,
        hedges: hedging.HedgePolicy,
        retries: retrying.RetryPolicy,
        limit: concurrency.AdaptiveLimit,
        loop: asyncio.AbstractEventLoop,
        random_fraction: Callable[[], float] = random.random,
    ) -> None:
        self.tally = fetch_counters.Tally()
        self.reads, self.hedges, self.retries, self.limit = reads, hedges, retries, limit
        self._loop, self._clock = loop, loop.time
        self._random = random_fraction
        self._etags: dict[str, str] = {}
        self._renewals = 0
        self._renewing = asyncio.Lock()
        self._races: set[Race] = set()
        self._is_watching = False

    async def read(self, part: Part, priority: float, under_way: Callable[[], int]) -> memoryview:
        """Return the part's bytes, however many requests that takes.

        Args:
            part: what to read.
            priority: of parts that are late together the lowest is hedged first, for the budget may not do for all.
            under_way: gives the number of parts being read, this one included.

        Raises:
            errors.TrainerError: it was given up.
        """
        trouble: Trouble | None = None
        is_renewed = False
        while True:
            renewals = self._renewals
            try:
                data = await self._race(part, priority, trouble)
            except range_reads.ReadFailedError as e:
                if e.kind is range_reads.FailureKind.KEY_REFUSED and not is_renewed:
                    is_renewed = True
                    await self._renew(renewals)
                    continue
                trouble = trouble or Trouble(self._clock(), e)
                wait = self._plan_retry(trouble, e)
                if wait is None:
                    raise await asyncio.to_thread(e.explain) from None
            else:
                self.retries.note_success()
                self.limit.note_success(under_way())
                return data
            self.tally.retries += 1
            await asyncio.sleep(wait)

    def _plan_retry(self, trouble: Trouble, e: range_reads.ReadFailedError) -> float | None:
        trouble.last, trouble.failures = e, trouble.failures + 1
        if e.kind in (range_reads.FailureKind.FINAL, range_reads.FailureKind.KEY_REFUSED):
            return None
        return self.retries.plan_retry(trouble.first_at, trouble.failures, self._clock(), self._random())

    async def _renew(self, seen: int) -> None:
        """Renew the credentials, unless another part did since this one's request."""
        async with self._renewing:
            if self._renewals == seen:
                self.tally.renewals += 1
                await asyncio.to_thread(self.reads.renew_credentials)
                self._renewals += 1

    async def _race(self, part: Part, priority: float, trouble: Trouble | None) -> memoryview:
        """Return the bytes that the first request brings, or the hedge that `_watch` sends when it is late.

        The first request runs in this task itself, which a hedge that wins cancels: a task for each request would cost
        a third of the processor time of a small one.
        """
        task = asyncio.current_task()
        assert task is not None
        race = Race(part, priority, task, Attempt(self._clock()))
        if trouble is not None:
            race.cut_at = max(self.retries.deadline(trouble.first_at), race.first.sent_at + _LAST_TRY_SECONDS)
        self.hedges.note_request()
        race.late_at = _after(race.first.sent_at, self.hedges.first_byte_wait())
        self._enter(race)
        try:
            return await self._request(race, race.first)
        except asyncio.CancelledError:
            if race.won is None and not race.is_cut:
                self._lose(part, race.first)
                raise
            task.uncancel()
            self._lose(part, race.first)
            if race.won is not None:
                return race.won
            assert trouble is not None
            raise trouble.last from None
        except range_reads.ReadFailedError:
            if race.hedge is None:
                raise
            race.task = None
            return await race.hedge
        finally:
            self._leave(race)

    async def _request(self, race: "Race", attempt: "Attempt") -> memoryview:
        """Send one request and return its bytes."""
        part = race.part
        self.tally.requests += 1
        try:
            body = await self.reads.begin(part.key, part.start, part.length, self._etags.get(part.key))
            now = attempt.first_byte_at = self._clock()
            self.hedges.note_first_byte(now - attempt.sent_at)
            self._check_answer(part, body)
            if attempt is race.first and race.late_at is not None:
                race.late_at = _after(now, self.hedges.body_wait(part.length))
            data = await body.read()
            self._check_length(part, data)
            self.hedges.note_body(self._clock() - now, part.length)
        except range_reads.ReadFailedError as e:
            if attempt.first_byte_at is not None:
                self.tally.bytes_wasted += part.length
            if e.kind is range_reads.FailureKind.THROTTLED:
                self.tally.throttled += 1
                self.limit.note_throttled(attempt.sent_at, self._clock())
            raise
        return data

    def _check_answer(self, part: Part, body: range_reads.Body) -> None:
        """Pin the object's ETag, or compare it; raise when the object is another one or a shorter one."""
        uri, final = self.reads.uri_of(part.key), range_reads.FailureKind.FINAL
        if body.etag is not None and self._etags.setdefault(part.key, body.etag) != body.etag:
            raise range_reads.ReadFailedError(final, lambda: range_reads.replaced_object(uri))
        if body.object_bytes < part.start + part.length:
            raise range_reads.ReadFailedError(final, lambda: local.short_object(uri, part.start, part.length))

    def _check_length(self, part: Part, data: memoryview) -> None:
        if len(data) != part.length:  # though the object is long enough
            uri = self.reads.uri_of(part.key)
            raise range_reads.ReadFailedError(range_reads.FailureKind.PASSING, lambda: _cut_answer(uri))

    def _enter(self, race: "Race") -> None:
        self._races.add(race)
        if not self._is_watching and self.reads.is_remote:
            self._is_watching = True
            self._loop.call_later(_WATCH_SECONDS, self._watch)

    def _leave(self, race: "Race") -> None:
        self._races.discard(race)
        race.is_over = True
        if race.hedge is not None and not race.hedge.done():
            race.hedge.cancel()

    def _watch(self) -> None:
        """Look for requests that are late or past their time, as long as there are any."""
        now = self._clock()
        late = []
        for race in self._races:
            if race.task is None:
                continue  # the hedge is all that is left of it
            if race.cut_at is not None and now >= race.cut_at:
                race.is_cut = True
                race.task.cancel()
            elif race.late_at is not None and now >= race.late_at:
                late.append(race)
        for race in sorted(late, key=lambda race: race.priority):
            if not self.hedges.try_spend():
                break  # until the budget has grown
            self._hedge(race)
        self._is_watching = bool(self._races)
        if self._is_watching:
            self._loop.call_later(_WATCH_SECONDS, self._watch)

    def _hedge(self, race: "Race") -> None:
        race.late_at = None
        self.tally.hedges += 1
        race.hedge = self._loop.create_task(self._run_hedge(race))
        race.hedge.add_done_callback(lambda hedge: self._on_hedge(race, hedge))

    async def _run_hedge(self, race: "Race") -> memoryview:
        attempt = Attempt(self._clock())
        try:
            return await self._request(race, attempt)
        except asyncio.CancelledError:
            self._lose(race.part, attempt)
            raise

    def _on_hedge(self, race: "Race", hedge: "asyncio.Task[memoryview]") -> None:
        if hedge.cancelled() or hedge.exception() is not None:
            return  # the first request goes on, or takes the failure for its own
        if race.task is None or not race.is_over:
            self.tally.hedges_won += 1
        if race.task is not None and not race.is_over:
            race.won = hedge.result()
            race.task.cancel()

    def _lose(self, part: Part, attempt: "Attempt") -> None:
        """Learn from a request that was ended how long it has taken at least."""
        now = self._clock()
        if attempt.first_byte_at is None:
            self.hedges.note_first_byte(now - attempt.sent_at)
        else:
            self.tally.bytes_wasted += part.length
            self.hedges.note_body(now - attempt.first_byte_at, part.length)


@dataclasses.dataclass(slots=True)
class Attempt:
    """One request."""

    sent_at: float
    first_byte_at: float | None = None


@dataclasses.dataclass(slots=True, eq=False)
class Race:
    """A request for a part, and the hedge that may overtake it."""

    part: Part
    priority: float
    task: "asyncio.Task[Any] | None"
    """Runs the first request; None once that has failed and the hedge alone is waited for."""
    first: Attempt
    late_at: float | None = None
    """When a hedge is due; None without hedging, and once it is sent."""
    cut_at: float | None = None
    """When the part is given up; None before its first failure."""
    hedge: "asyncio.Task[memoryview] | None" = None
    won: memoryview | None = None
    """The hedge's bytes, for which the first request was cancelled."""
    is_cut: bool = False
    is_over: bool = False


def _after(moment: float, wait: float | None) -> float | None:
    return None if wait is None else moment + wait


def _cut_answer(uri: str) -> errors.StorageUnavailableError:
    return errors.StorageUnavailableError(
        f"cannot read {uri}: the endpoint's answer ended early. Check the endpoint and the network."
    )
