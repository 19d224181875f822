"""Who of the group is there: one seat a rank, with its newest report. Pure."""

import collections
from collections.abc import Iterable

from imagetrain_trainer.rendezvous import failures, messages, settings

_KEPT_INCARNATIONS = 64  # a supervisor that was replaced does not take its seat back


class Seat:
    """One rank's place."""

    def __init__(self, began: float) -> None:
        self.report: messages.MemberReport | None = None
        self.is_present = False
        self.is_frozen = False  # why it is not present
        self.heard_at = began
        self.absent_since = began
        self.stopping_since: float | None = None
        # Generation that its supervisor was told to run and has not reported, and the order that takes that back: until
        # it has obeyed that one, it may still start the process.
        self.pending: tuple[int, int] | None = None
        self.retired: collections.deque[str] = collections.deque(maxlen=_KEPT_INCARNATIONS)

    def holds(self, incarnation: str) -> bool:
        """Tell whether it is this supervisor's."""
        return self.report is not None and self.report.incarnation == incarnation

    @property
    def is_stopping(self) -> bool:
        """Tell whether its supervisor was asked to stop."""
        return self.stopping_since is not None

    def note_obedience(self) -> None:
        """Note which orders its supervisor cannot act on any more."""
        if self.pending is not None and self.report is not None:
            generation, sequence = self.pending
            if self.report.generation >= generation or self.report.heard >= sequence:
                self.pending = None

    @property
    def has_process(self) -> bool:
        """Tell whether its training process was there when it was last heard of."""
        return self.report is not None and self.report.has_process


class Seats:
    """The seats of a group, by rank."""

    def __init__(self, limits: settings.Settings, began: float) -> None:
        self._limits = limits
        self._began = began
        self._seats = tuple(Seat(began) for _ in range(limits.workers))

    def take(self, report: messages.MemberReport, now: float) -> bool:
        """Note a report; False where its supervisor was replaced."""
        seat = self._seats[report.rank]
        if report.incarnation in seat.retired:
            return False
        if seat.report is not None and not seat.holds(report.incarnation):
            seat.retired.append(seat.report.incarnation)
            seat.stopping_since = seat.pending = None
        seat.report, seat.is_present, seat.is_frozen, seat.heard_at = report, True, False, now
        seat.note_obedience()
        if not report.is_stopping:
            seat.stopping_since = None
        elif seat.stopping_since is None:
            seat.stopping_since = now
        return True

    def bar(self, rank: int, incarnation: str, generation: int, sequence: int) -> None:
        """Hold a supervisor for busy that was told to run a generation, until it has obeyed a later order."""
        seat = self._seats[rank]
        if generation and seat.holds(incarnation) and (seat.pending is None or seat.pending[0] <= generation):
            seat.pending = (generation, sequence)
            seat.note_obedience()

    def lose(self, rank: int, incarnation: str, now: float) -> None:
        """Note that a supervisor's connection ended."""
        seat = self._seats[rank]
        if seat.holds(incarnation) and seat.is_present:
            seat.is_present, seat.absent_since = False, now

    def vanished_together(self, ranks: Iterable[int]) -> bool:
        """Tell whether these are away since the same moment; each was to be heard of every half second."""
        seats = [self._seats[rank] for rank in ranks]
        since = [seat.absent_since for seat in seats if not seat.is_present and not seat.is_stopping]
        return len(since) == len(seats) and max(since) - min(since) <= self._limits.window_seconds

    def find_silent(self, now: float) -> None:
        """Note who has been silent for too long."""
        for seat in self._seats:
            if seat.is_present and now - seat.heard_at > self._limits.silence_seconds:
                seat.is_present, seat.is_frozen, seat.absent_since = False, True, seat.heard_at

    def report(self, rank: int) -> messages.MemberReport | None:
        """Return the newest report of a rank."""
        return self._seats[rank].report

    def reports(self, ranks: Iterable[int]) -> list[messages.MemberReport]:
        """Return the newest reports of some ranks, where there are any."""
        found = (self._seats[rank].report for rank in sorted(ranks))
        return [report for report in found if report is not None]

    def silent_seconds(self, rank: int, now: float) -> float:
        """Return for how long a supervisor has sent nothing."""
        return now - self._seats[rank].heard_at

    def is_retired(self, rank: int, incarnation: str) -> bool:
        """Tell whether another supervisor took this one's seat."""
        return incarnation in self._seats[rank].retired

    def is_present(self, rank: int, incarnation: str) -> bool:
        """Tell whether a supervisor is connected and not silent."""
        return self._seats[rank].holds(incarnation) and self._seats[rank].is_present

    def is_silent(self, rank: int, incarnation: str) -> bool:
        """Tell whether a supervisor was silent for too long."""
        return self._seats[rank].holds(incarnation) and self._seats[rank].is_frozen

    def usable(self) -> list[int]:
        """Return who is there and stays."""
        return [rank for rank, seat in enumerate(self._seats) if seat.is_present and not seat.is_stopping]

    def ready(self) -> list[int]:
        """Return who could start a process now."""
        return [rank for rank in self.usable() if not self._seats[rank].has_process and not self._seats[rank].pending]

    def missing(self) -> list[int]:
        """Return who is not ready."""
        ready = set(self.ready())
        return [rank for rank in range(len(self._seats)) if rank not in ready]

    def has_stopping(self) -> bool:
        """Tell whether any supervisor was asked to stop."""
        return any(seat.is_stopping for seat in self._seats)

    def all_stopping(self) -> bool:
        """Tell whether every supervisor was asked to stop."""
        return all(seat.is_stopping for seat in self._seats)

    def explain_absence(self, rank: int, incarnation: str) -> failures.Failure | None:
        """Return why a supervisor is not there; None where it is."""
        seat = self._seats[rank]
        if not seat.holds(incarnation):
            return failures.explain_absence(rank, f"Rank {rank}'s worker was lost and came back.")
        if seat.is_present:
            return None
        if seat.is_stopping:
            return failures.explain_stop(rank, can_heal=True)
        if seat.is_frozen:
            message = f"Rank {rank}'s worker was silent for {self._limits.silence_seconds:g} s."
            return failures.explain_absence(rank, message, reason="Frozen", can_heal=True)
        return failures.explain_absence(rank, f"Rank {rank}'s worker was lost.", can_heal=True)

    def find_overdue(self, now: float, since: float, *, is_first: bool, needs_all: bool) -> str | None:
        """Return, in one line, who has kept the group waiting for too long.

        Args:
            now: the clock.
            since: when the wait began.
            is_first: whether no generation has run yet: machines and images may take long then.
            needs_all: whether the absent are waited for at all.
        """
        for rank, seat in enumerate(self._seats):
            if seat.is_present and seat.is_stopping:
                began, what = max(since, seat.stopping_since or since), "was asked to stop and did not leave"
            elif seat.is_present and seat.has_process:
                began, what = max(since, seat.absent_since), "did not stop its training process"
            elif seat.is_present and seat.pending:
                began, what = max(since, seat.absent_since), "did not answer its last order"
            elif seat.is_present or not needs_all:
                continue
            elif seat.report is None and is_first:
                if now - self._began > self._limits.start_timeout_seconds:
                    seconds = f"{self._limits.start_timeout_seconds:g}"
                    return f"Rank {rank} did not appear within {seconds} s (recovery.startTimeoutSeconds)."
                continue
            else:
                began, what = max(since, seat.absent_since), "did not come back"
            if now - began > self._limits.member_timeout_seconds:
                seconds = f"{self._limits.member_timeout_seconds:g}"
                return f"Rank {rank} {what} within {seconds} s (recovery.memberTimeoutSeconds)."
        return None
