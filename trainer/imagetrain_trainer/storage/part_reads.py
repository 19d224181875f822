"""One part of a fetch from its first request to its bytes: hedges, retries and renewed credentials.

Everything here runs on one event loop's thread. `fetching` decides which part's turn it is.
"""

import asyncio
import dataclasses
import random
from collections.abc import Callable

from imagetrain_trainer import errors
from imagetrain_trainer.storage import concurrency, fetch_counters, hedging, local, range_reads, retrying


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """Bytes `start` to `start + length` of an object."""

    key: str
    start: int
    length: int


class PartReader:
    """Reads parts; all of them share what is learned of the server."""

    def __init__(
        self,
        reads: range_reads.RangeReads,
        hedges: hedging.HedgePolicy,
        retries: retrying.RetryPolicy,
        limit: concurrency.AdaptiveLimit,
        clock: Callable[[], float],
        random_fraction: Callable[[], float] = random.random,
    ) -> None:
        self.tally = fetch_counters.Tally()
        self.reads, self.hedges, self.retries, self.limit = reads, hedges, retries, limit
        self.clock = clock
        self._random = random_fraction
        self._etags: dict[str, str] = {}
        self._renewals = 0
        self._renewing = asyncio.Lock()

    async def read(self, part: Part, under_way: Callable[[], int]) -> memoryview:
        """Return the part's bytes, however many requests that takes.

        Args:
            part: what to read.
            under_way: gives the number of parts being read, this one included.

        Raises:
            errors.TrainerError: it was given up.
        """
        failures, is_renewed = 0, False
        first_failure: float | None = None
        while True:
            deadline = None if first_failure is None else self.retries.deadline(first_failure)
            renewals = self._renewals
            try:
                data = await self._race(part, deadline)
            except range_reads.ReadFailedError as e:
                if e.kind is range_reads.FailureKind.KEY_REFUSED and not is_renewed:
                    is_renewed = True
                    await self._renew(renewals)
                    continue
                failures += 1
                first_failure = self.clock() if first_failure is None else first_failure
                wait = self._plan_retry(e, first_failure, failures)
                if wait is None:
                    raise await _explain(e) from None
            else:
                self.retries.note_success()
                self.limit.note_success(under_way())
                return data
            self.tally.retries += 1
            await asyncio.sleep(wait)

    def _plan_retry(self, e: range_reads.ReadFailedError, first_failure: float, failures: int) -> float | None:
        if e.kind in (range_reads.FailureKind.FINAL, range_reads.FailureKind.KEY_REFUSED):
            return None
        return self.retries.plan_retry(first_failure, failures, self.clock(), self._random())

    async def _renew(self, seen: int) -> None:
        """Renew the credentials, unless another part did since this one's request."""
        async with self._renewing:
            if self._renewals == seen:
                self.tally.renewals += 1
                await asyncio.to_thread(self.reads.renew_credentials)
                self._renewals += 1

    async def _race(self, part: Part, deadline: float | None) -> memoryview:
        """Return the bytes that the first request brings, or the hedge that is sent when it is late."""
        attempts = [Attempt(self, part)]
        try:
            while True:
                timeout = self._wait(attempts, deadline)
                done, _ = await asyncio.wait(
                    [attempt.task for attempt in attempts], timeout=timeout, return_when=asyncio.FIRST_COMPLETED
                )
                for attempt in [attempt for attempt in attempts if attempt.task in done]:
                    if attempt.task.exception() is None or len(attempts) == 1:
                        self.tally.hedges_won += attempt.is_hedge and attempt.task.exception() is None
                        return attempt.task.result()
                    attempts.remove(attempt)
                if not done:
                    self._act_on_lateness(part, attempts, deadline)
        finally:
            for attempt in attempts:
                attempt.cancel()

    def _wait(self, attempts: list["Attempt"], deadline: float | None) -> float | None:
        moments = [] if deadline is None else [deadline]
        if len(attempts) == 1 and attempts[0].late_at is not None:
            moments.append(attempts[0].late_at)
        return max(0.0, min(moments) - self.clock()) if moments else None

    def _act_on_lateness(self, part: Part, attempts: list["Attempt"], deadline: float | None) -> None:
        now = self.clock()
        if deadline is not None and now >= deadline:
            uri = self.reads.uri_of(part.key)
            raise range_reads.ReadFailedError(range_reads.FailureKind.PASSING, lambda: _too_late(uri))
        first = attempts[0]
        if len(attempts) > 1 or first.late_at is None or now < first.late_at:
            return  # the first byte came meanwhile, and moved the moment
        first.late_at = None
        if self.hedges.try_spend():
            self.tally.hedges += 1
            attempts.append(Attempt(self, part, is_hedge=True))

    def etag_of(self, key: str) -> str | None:
        """Return the ETag of the object's first answer."""
        return self._etags.get(key)

    def check_answer(self, part: Part, body: range_reads.Body) -> None:
        """Pin the object's ETag, or compare it.

        Raises:
            ReadFailedError: it is another object, or a shorter one.
        """
        uri, final = self.reads.uri_of(part.key), range_reads.FailureKind.FINAL
        if body.etag is not None and self._etags.setdefault(part.key, body.etag) != body.etag:
            raise range_reads.ReadFailedError(final, lambda: range_reads.replaced_object(uri))
        if body.object_bytes < part.start + part.length:
            raise range_reads.ReadFailedError(final, lambda: local.short_object(uri, part.start, part.length))

    def check_length(self, part: Part, data: memoryview) -> None:
        """Compare the answer's length.

        Raises:
            ReadFailedError: it was cut, though the object is long enough.
        """
        if len(data) != part.length:
            uri = self.reads.uri_of(part.key)
            raise range_reads.ReadFailedError(range_reads.FailureKind.PASSING, lambda: _cut_answer(uri))


class Attempt:
    """One request, under way as a task."""

    def __init__(self, reader: PartReader, part: Part, *, is_hedge: bool = False) -> None:
        self.is_hedge = is_hedge
        self._reader, self._part = reader, part
        self._sent_at = reader.clock()
        self._first_byte_at: float | None = None
        self.late_at: float | None = None
        """When a hedge is due; None when none is."""
        reader.tally.requests += 1
        if not is_hedge:
            reader.hedges.note_request()
            wait = reader.hedges.first_byte_wait()
            self.late_at = None if wait is None else self._sent_at + wait
        self.task: asyncio.Task[memoryview] = asyncio.create_task(self._run())

    async def _run(self) -> memoryview:
        reader, part = self._reader, self._part
        try:
            body = await reader.reads.begin(part.key, part.start, part.length, reader.etag_of(part.key))
            now = self._first_byte_at = reader.clock()
            reader.hedges.note_first_byte(now - self._sent_at)
            reader.check_answer(part, body)
            if not self.is_hedge:
                wait = reader.hedges.body_wait(part.length)
                self.late_at = None if wait is None else now + wait
            data = await body.read()
            reader.check_length(part, data)
            reader.hedges.note_body(reader.clock() - now, part.length)
        except range_reads.ReadFailedError as e:
            self._note_failure(e)
            raise
        return data

    def _note_failure(self, e: range_reads.ReadFailedError) -> None:
        reader = self._reader
        if self._first_byte_at is not None:
            reader.tally.bytes_wasted += self._part.length
        if e.kind is range_reads.FailureKind.THROTTLED:
            reader.tally.throttled += 1
            reader.limit.note_throttled(self._sent_at, reader.clock())

    def cancel(self) -> None:
        """End the request if it is still under way, and learn from how long it has taken."""
        if self.task.done():
            if not self.task.cancelled():
                self.task.exception()  # which marks it as seen
            return
        self.task.cancel()
        reader, now = self._reader, self._reader.clock()
        if self._first_byte_at is None:
            reader.hedges.note_first_byte(now - self._sent_at)
        else:
            reader.tally.bytes_wasted += self._part.length
            reader.hedges.note_body(now - self._first_byte_at, self._part.length)


async def _explain(e: range_reads.ReadFailedError) -> errors.TrainerError:
    return await asyncio.to_thread(e.explain)


def _too_late(uri: str) -> errors.StorageUnavailableError:
    return errors.StorageUnavailableError(
        f"cannot read {uri}: the endpoint did not answer in time. Check the endpoint and the network."
    )


def _cut_answer(uri: str) -> errors.StorageUnavailableError:
    return errors.StorageUnavailableError(
        f"cannot read {uri}: the endpoint's answer ended early. Check the endpoint and the network."
    )
