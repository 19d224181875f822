"""Decides what the supervisors of a group do next. Pure: reports, losses and the clock come in, orders go out.

    WAITING --all are there and idle--> RUNNING --a failure--> CHECKING --its cause is known--> WAITING
                                           |                      |
                                           '-----a hang-------> DUMPING --judged--> WAITING
    any --everything is done, a failure that stays, a member that stays away, too many restarts--> LEAVING

The clock that comes in must be monotonic. Time during which the coordinator itself did not run counts as one short
moment, so that a coordinator that was frozen blames nobody for its own silence.
"""

import dataclasses
import enum
from collections.abc import Callable, Sequence

from imagetrain_api import exit_codes, progress
from imagetrain_trainer.rendezvous import crashes, failures, generations, history, messages, seats, settings

ExitCode = exit_codes.ExitCode
Judgement = crashes.Judgement
Kind = failures.Kind

MAX_STEP_SECONDS = 2.0  # a longer time between two calls is the coordinator's own silence; it is called each 0.1 s
MAX_TURNS = 10**9  # of which a new coordinator may not have heard
MAX_LEAP = 20_000  # generations of which a new coordinator may not have heard; `recovery.maxRestarts` is at most 10,000


class Phase(enum.Enum):
    """What the coordinator is at."""

    WAITING = "waiting"
    RUNNING = "running"
    CHECKING = "checking"
    DUMPING = "dumping"
    LEAVING = "leaving"


class Coordinator:
    """The state machine; not thread-safe."""

    def __init__(
        self, limits: settings.Settings, judge: failures.Judge, *, now: float, wall_clock: Callable[[], float]
    ) -> None:
        """Start with nobody there.

        Args:
            limits: of this group.
            judge: names the guilty rank of a hung group.
            now: monotonic clock.
            wall_clock: Unix time, for records alone.
        """
        self._limits = limits
        self._judge = judge
        self._wall_clock = wall_clock
        self._raw = now
        self._now = now  # without the time in which nothing was called
        self._history = history.History(limits)
        self._seats = seats.Seats(limits, now)
        self._crashes = crashes.Crashes(limits)
        self._number = 0
        self._sequence = 1  # of the orders; grows with each turn
        self._current = generations.Generation(0, (), self._seats, limits)
        self._exit_codes: dict[int, int] = {}
        self._other_exit_code = int(ExitCode.PEER_LOST)
        self._message = ""
        self._not_before = now
        self._detected: tuple[float, float] = (now, 0.0)  # monotonic and Unix time
        self._phase = Phase.WAITING
        self._since = now
        self._started_at = now
        self._orders: dict[tuple[object, ...], messages.Order] = {}  # those that hold now, for they are many and alike

    # What is asked of it.

    @property
    def phase(self) -> Phase:
        """What it is at."""
        return self._phase

    @property
    def generation(self) -> int:
        """Newest generation; 0 before the first."""
        return self._number

    @property
    def is_over(self) -> bool:
        """Tell whether every member is to leave."""
        return self._phase is Phase.LEAVING

    def recoveries(self, now: float) -> tuple[progress.Recovery, ...]:
        """Return the newest recoveries, oldest first, with the time lost until now."""
        return self._history.recoveries(now)

    def is_silent(self, rank: int, incarnation: str) -> bool:
        """Tell whether this supervisor was silent for so long that its connection is worth nothing."""
        return self._seats.is_silent(rank, incarnation)

    def order_for(self, rank: int, incarnation: str) -> messages.Order:
        """Return what a supervisor is to do now."""
        if self._seats.is_retired(rank, incarnation):
            message = f"Another worker has taken the place of rank {rank}."
            return self._order("leave", message, exit_code=int(ExitCode.PEER_LOST))
        report = self._seats.report(rank)
        if self._phase is Phase.LEAVING:
            return self._order("leave", self._message, exit_code=self._exit_codes.get(rank, self._other_exit_code))
        if report is not None and report.is_stopping and (self._phase is Phase.WAITING or not report.has_process):
            code = ExitCode.DONE if report.is_done else ExitCode.PREEMPTED
            return self._order("leave", f"Rank {rank} was asked to stop.", exit_code=int(code))
        if self._phase is Phase.WAITING:
            return self._waiting_order(report)
        return self._order(self._action_for(rank, incarnation, report), self._message)

    def _action_for(self, rank: int, incarnation: str, report: messages.MemberReport | None) -> str:
        is_late = report is None or report.generation < self._number
        is_mine = self._current.has(rank, incarnation)
        if report is not None and report.has_process and (is_late or not is_mine):
            return "stop"
        if not is_mine or (is_late and self._phase is not Phase.RUNNING):
            return "wait"
        if self._phase is Phase.DUMPING:
            return "dump"
        return "checkpoint_and_stop" if self._current.is_growing else "run"

    def _waiting_order(self, report: messages.MemberReport | None) -> messages.Order:
        missing = self._seats.missing()
        waits = f"Waiting for {failures.name_ranks(missing).lower()}." if missing else ""
        action = "stop" if report is not None and report.has_process else "wait"
        return self._order(action, f"{self._message} {waits}".strip())

    def _order(self, action: str, message: str, *, exit_code: int | None = None) -> messages.Order:
        recoveries = self._history.known()
        key = (
            self._sequence,
            action,
            message,
            exit_code,
            self._history.restarts,
            id(recoveries),
            self._crashes.skip_steps,
        )
        if key not in self._orders:
            if len(self._orders) > 2 * self._limits.workers:
                self._orders.clear()
            self._orders[key] = messages.Order(
                sequence=self._sequence,
                generation=self._number,
                action=action,
                members=self._current.members,
                resume_step=self._current.resume_step,
                skip_steps=self._crashes.skip_steps,
                careful_steps=self._crashes.careful_steps,
                exit_code=exit_code,
                message=message,
                recoveries=recoveries,
                restarts=self._history.restarts,
            )
        return self._orders[key]

    # What happens to it.

    def join(self, hello: messages.Hello, now: float) -> None:
        """Take a supervisor's first report on a new connection.

        Raises:
            ValueError: the group has no such rank, or the report cannot be true.
        """
        rank = hello.report.rank
        if rank >= self._limits.workers:
            raise ValueError(f"rank must be below {self._limits.workers}, got {rank!r}.")
        heard = max(hello.generation, hello.report.generation)
        self._check(heard, hello.report.heard)
        self._advance(now)
        if hello.report.heard >= self._sequence:  # of another coordinator: its orders are taken back
            self._sequence = hello.report.heard + 1
        if not self._seats.is_retired(rank, hello.report.incarnation):
            self._history.recall(hello, now)
            self._crashes.recall(hello.skip_steps)
            if heard > self._number:  # even if nobody has started it yet, its number is used up
                self._adopt(hello.report, heard)
        self._take(hello.report, told=heard)

    def receive(self, report: messages.MemberReport, now: float) -> None:
        """Take a further report.

        Raises:
            ValueError: the report cannot be true.
        """
        self._check(report.generation, report.heard)
        self._advance(now)
        self._take(report)

    def lose(self, rank: int, incarnation: str, now: float) -> None:
        """Note that the connection to a supervisor ended."""
        self._advance(now)
        self._seats.lose(rank, incarnation, self._now)
        self._decide()

    def tick(self, now: float) -> None:
        """Let time pass."""
        self._advance(now)
        self._seats.find_silent(self._now)
        self._decide()

    def _check(self, generation: int, heard: int) -> None:
        if heard > self._sequence + MAX_TURNS:
            raise ValueError(f"heard must be at most {self._sequence + MAX_TURNS}, got {heard!r}.")
        limit = max(self._number, self._limits.first_generation) + MAX_LEAP
        if generation > limit:
            raise ValueError(f"generation must be at most {limit}, got {generation!r}.")

    def _advance(self, now: float) -> None:
        self._now += min(max(0.0, now - self._raw), MAX_STEP_SECONDS)
        self._raw = max(now, self._raw)

    def _take(self, report: messages.MemberReport, told: int = 0) -> None:
        if not self._seats.take(report, self._now):
            return
        self._seats.bar(report.rank, report.incarnation, told, self._sequence)
        if report.dump_generation:
            self._history.note_dump(report.dump_generation, report.rank, report.dump_uri, report.dump_head)
        if report.generation > self._number:
            self._adopt(report, report.generation)
        elif report.generation == self._number and self._current.has(report.rank, report.incarnation):
            self._current.witness(report)
            if self._phase not in (Phase.WAITING, Phase.LEAVING):
                self._history.observe(report, self._raw, self._wall_clock())
        self._decide()

    def _adopt(self, report: messages.MemberReport, generation: int) -> None:
        """Go on from a generation that another coordinator started; its processes are stopped."""
        self._detected = (self._raw, self._wall_clock())
        if self._phase not in (Phase.WAITING, Phase.LEAVING):
            message = f"Rank {report.rank} was told of generation {generation}, which this group does not know."
            self._settle(failures.explain_absence(None, message))
        self._number = generation
        self._history.recall_step(report.step, self._raw)

    # What it decides.

    def _decide(self) -> None:
        """Go from phase to phase until nothing changes."""
        steps = {
            Phase.WAITING: self._wait_on,
            Phase.RUNNING: self._run_on,
            Phase.CHECKING: self._check_on,
            Phase.DUMPING: self._dump_on,
        }
        phase = None
        while self._phase is not phase and self._phase is not Phase.LEAVING:
            phase = self._phase
            if phase is not Phase.WAITING:
                self._current.find_failures(self._now - self._started_at)
            steps[phase]()

    def _enter(self, phase: Phase) -> None:
        self._phase, self._since = phase, self._now
        self._sequence += 1
        if phase is Phase.WAITING:
            self._current.bar(self._sequence)

    def _elapsed(self) -> float:
        return self._now - self._since

    def _wait_on(self) -> None:
        ready, usable = self._seats.ready(), self._seats.usable()
        if self._seats.all_stopping():
            self._leave_stopped()
            return
        # Whoever is absent may be left out in time; a process that is still there may not, and rank 0 never.
        is_enough = 0 in usable and self._limits.needed <= len(usable) < self._limits.workers
        has_waited = len(ready) == self._limits.workers or self._elapsed() >= self._limits.elastic_timeout_seconds
        is_complete = ready == usable and 0 in ready and len(ready) >= self._limits.needed
        if is_complete and has_waited and self._now >= self._not_before:
            self._start(ready)
            return
        overdue = self._seats.find_overdue(self._now, self._since, is_first=self._number == 0, needs_all=not is_enough)
        if overdue is not None:
            self._leave({}, ExitCode.PEER_LOST, overdue)

    def _start(self, ranks: Sequence[int]) -> None:
        if self._number > self._history.explained:
            self._record(failures.explain_absence(0, "Rank 0's worker was lost and came back."))
            if self._phase is Phase.LEAVING:
                return
        self._number = max(self._number, self._limits.first_generation - 1) + 1
        self._current = generations.Generation(self._number, self._seats.reports(ranks), self._seats, self._limits)
        self._history.begin(self._current.resume_step, self._raw)
        self._orders.clear()
        self._message, self._started_at = "", self._now
        self._enter(Phase.RUNNING)

    def _run_on(self) -> None:
        if self._current.is_done:
            self._leave({}, ExitCode.DONE, "The job is done.")
        elif self._current.failed:
            self._notice(Phase.CHECKING)
        elif self._current.suspects():
            self._notice(Phase.DUMPING)
        elif not self._current.is_growing:
            # Its processes save and stop; the generation behind it starts with everybody who is there.
            self._current.is_growing = not all(self._current.has_rank(rank) for rank in self._seats.ready())

    def _notice(self, phase: Phase) -> None:
        self._detected = (self._raw, self._wall_clock())
        self._enter(phase)

    def _check_on(self) -> None:
        failed, suspects = self._current.failed, self._current.suspects()
        cause = failures.find_cause(failed)
        if cause is None:
            self._enter(Phase.DUMPING if suspects else Phase.RUNNING)
            return
        are_saving = not suspects and all(each.kind is Kind.PREEMPTED for each in failed)
        limit = self._limits.save_seconds if are_saving else self._limits.window_seconds
        if cause.is_sure or self._current.is_told:
            self._settle(cause)
        elif self._elapsed() >= limit:
            self._conclude(cause)

    def _conclude(self, cause: failures.Failure) -> None:
        if cause.kind is not Kind.PEER_LOST:
            isolation = self._current.isolation() if cause.kind is Kind.GONE else None
            self._settle(isolation or cause)
        elif self._current.suspects():
            self._enter(Phase.DUMPING)
        elif not (quiet := self._current.quiet(self._now)):
            self._settle(cause)
        elif self._elapsed() >= self._limits.silence_seconds + self._limits.window_seconds:
            message = f"{failures.name_ranks(quiet)} fell silent: frozen, or cut off from rank 0."
            self._settle(failures.explain_absence(quiet[0], message, reason="Frozen"))

    def _dump_on(self) -> None:
        failed, suspects = self._current.failed, self._current.suspects()
        if not suspects and not failed:
            self._enter(Phase.RUNNING)
            return
        is_dumped = all(report.has_dump for report in self._current.running())
        if is_dumped or self._elapsed() >= self._limits.dump_seconds:
            guilt = self._judge(self._current.evidence, self._raw)
            fallback = next((each.message for each in suspects if each.message), "The group hung.")
            self._settle(failures.explain_hang(guilt, failed, fallback))

    def _settle(self, cause: failures.Failure) -> None:
        """End the generation."""
        if cause.kind is Kind.PREEMPTED and self._seats.all_stopping():
            self._leave_stopped()
            return
        is_planned = self._current.is_growing and cause.kind is Kind.PREEMPTED and not self._seats.has_stopping()
        if is_planned:
            self._history.explained, self._not_before = self._number, self._now
        else:
            self._record(cause)
        if self._phase is not Phase.LEAVING:
            self._enter(Phase.WAITING)

    def _record(self, cause: failures.Failure) -> None:
        """Record a failure, and give up where another generation does not help."""
        stepped = self._history.has_stepped(self._crashes.skip_steps)
        judgement = self._crashes.judge(cause, has_stepped=stepped)
        if judgement is not Judgement.GO_ON:
            cause = dataclasses.replace(cause, message=self._crashes.describe(cause, judgement))
        self._history.end(self._number, cause, *self._detected)
        self._message = cause.message
        self._not_before = self._now + self._history.backoff_seconds()
        guilty = {} if cause.rank is None else {cause.rank: cause.exit_code}
        if cause.kind is Kind.FINAL:
            self._leave(guilty, ExitCode.PEER_LOST, cause.message)
        elif judgement is Judgement.GIVE_UP:
            self._leave({rank: int(ExitCode.CRASH_LOOP) for rank in guilty}, ExitCode.PEER_LOST, cause.message)
        elif self._history.restarts > self._limits.max_restarts:
            message = f"{cause.message} recovery.maxRestarts allows {self._limits.max_restarts} restarts."
            self._leave(guilty, ExitCode.PEER_LOST if guilty else cause.exit_code, message)

    def _leave_stopped(self) -> None:
        self._leave({}, ExitCode.PREEMPTED, "Every worker was asked to stop.")

    def _leave(self, codes: dict[int, int], other: int, message: str) -> None:
        self._history.close(self._raw, self._wall_clock() if other == ExitCode.DONE else None)
        self._exit_codes, self._other_exit_code, self._message = codes, int(other), message
        self._enter(Phase.LEAVING)
