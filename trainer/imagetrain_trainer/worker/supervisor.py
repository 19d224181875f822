"""Supervises one worker: tells the coordinator how its training process fares, and does what the coordinator says.

    order               what is done here
    wait                no process
    run                 the process of that generation is started, once
    dump                its stacks are taken, once
    checkpoint_and_stop it is asked to save and end
    stop                it is killed
    leave               it is killed, and this worker ends with the order's exit code

A first SIGTERM is passed on to the training process, which saves together with its peers; a second one kills it. After
either, no other generation starts here.
"""

import contextlib
import errno
import logging
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from imagetrain_api import exit_codes, progress, schema
from imagetrain_trainer.rendezvous import messages
from imagetrain_trainer.training import local_copies
from imagetrain_trainer.worker import environment, generation, outcomes, reaper, silence, stack_taking, training_process

logger = logging.getLogger(__name__)

ExitCode = exit_codes.ExitCode

POLL_SECONDS = 0.1
_END_SECONDS = 1.0  # for a killed process to be gone
_LEAVE_SECONDS = 2.0  # for the coordinator to let a worker go that was asked to stop
# When a parent with threads is killed, the kernel sends the parent-death signal once for each thread that inherits the
# child on the way, so one death may be told twice within milliseconds. Nobody asks twice that fast.
_ONE_REQUEST_SECONDS = 0.5


class Link(Protocol):
    """The connection to the group's coordinator."""

    def report(self, report: messages.MemberReport) -> None:
        """Tell the newest report."""

    def order(self) -> messages.Order:
        """Return the newest order."""


class Recoveries(Protocol):
    """Where the group's recoveries are known."""

    def recoveries(self) -> tuple[progress.Recovery, ...]:
        """Return the newest ones, oldest first, with the time lost until now."""


class Supervisor:
    """Runs one worker to its end."""

    def __init__(
        self,
        worker: environment.WorkerEnvironment,
        link: Link,
        starter: training_process.Starter,
        variables: Mapping[str, str],
        group: Recoveries | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare.

        Args:
            worker: who it is.
            link: to the coordinator.
            starter: of training processes.
            variables: this process's environment.
            group: the coordinator, where it is in this process; its worker shows the recoveries.
            clock: monotonic.
        """
        self._worker = worker
        self._link = link
        self._starter = starter
        self._variables = variables
        self._group = group
        self._clock = clock
        self._reaper = reaper.Reaper(clock)
        self._run_times = silence.RunTimes()
        self._size = 0  # of the newest generation
        self._generation: generation.Generation | None = None
        self._started = 0  # newest generation whose process was started here
        self._own_outcome: progress.WorkerOutcome | None = None  # how the newest process ended
        self._stacks: stack_taking.StackTaking | None = None  # the newest, whose generation may have ended
        self._uploads: list[stack_taking.StackTaking] = []  # on their way
        self._start_failure: progress.WorkerOutcome | None = None  # why the newest generation has no process here
        self._order = messages.Order()
        self._signals = 0
        self._signalled_at = -math.inf
        self._was_urgent = False
        self._free_since: float | None = None  # since when nothing holds this worker that was asked to stop
        self._shown = progress.Progress(rank=worker.rank)

    def run(self) -> progress.WorkerOutcome:
        """Return how this worker ends."""
        with self._signals_taken():
            try:
                while (outcome := self.tick()) is None:
                    # Not an Event that the signal handler sets: a handler that comes while this thread holds the
                    # event's lock would wait for ever.
                    time.sleep(POLL_SECONDS)
            finally:
                if self._generation is not None:
                    self._generation.close(_END_SECONDS)
                for each in self._uploads:
                    each.close(_END_SECONDS)
        return outcomes.with_recoveries(outcome, self._shown.recoveries)

    def read_progress(self) -> progress.Progress:
        """Return what this worker shows of itself; on any thread."""
        return self._shown

    def place(self) -> Mapping[str, int]:
        """Return what each line of the log tells; on any thread."""
        return {"generation": self._shown.generation, "step": self._shown.step}

    def tick(self) -> progress.WorkerOutcome | None:
        """Look, obey and report once; return the outcome when this worker is to end."""
        now = self._clock()
        self._reaper.reap()
        if self._generation is not None:
            self._generation.tick(now)
            self._own_outcome = self._generation.outcome
        self._follow_stacks()
        self._order = self._link.order()
        try:
            if not self._has_process():
                self._starter.is_ready()  # a fork server that has died is replaced before it is needed
            outcome = self._leave(now)
            if outcome is None:
                self._obey(now)
        except training_process.StartError as error:  # no generation would start here
            return outcomes.build_outcome(ExitCode.INTERNAL, str(error))
        self._show()
        self._link.report(self._build_report())
        return outcome

    def _follow_stacks(self) -> None:
        taken = None if self._generation is None else self._generation.stacks
        if taken is not None and taken is not self._stacks:
            self._stacks = taken
            self._uploads.append(taken)
        for each in self._uploads:
            each.tick()
        self._uploads = [each for each in self._uploads if each.is_under_way]

    # Orders.

    def _leave(self, now: float) -> progress.WorkerOutcome | None:
        """Return the outcome when this worker is to end: by the coordinator's word, or soon after a request to."""
        if self._order.action == "leave":
            return self._build_outcome(self._order.exit_code or 0, self._order.message)
        if self._signals and not self._has_process():
            self._free_since = now if self._free_since is None else self._free_since
            if now - self._free_since >= _LEAVE_SECONDS:
                return self._build_outcome(ExitCode.DONE if self._is_done() else ExitCode.PREEMPTED, "")
        return None

    def _obey(self, now: float) -> None:
        current, action = self._generation, self._order.action
        if action == "run":
            self._run(now)
        elif current is None or not current.is_running:
            if action in ("wait", "stop"):
                self._generation = None
        elif action == "dump":
            current.take_stacks()
        elif action == "checkpoint_and_stop":
            # While it joins its group TensorFlow takes the signal for itself, and it has nothing to save yet.
            if current.report.phase != "starting":
                current.ask_to_stop()
        else:
            current.kill()

    def _run(self, now: float) -> None:
        current, order = self._generation, self._order
        if current is not None and current.number < order.generation and current.is_running:
            current.kill()
        elif current is not None and current.is_running and current.stacks is not None:
            current.forget_stacks()  # the suspicion did not hold; another one takes new stacks
            self._stacks = None
        elif order.generation <= self._started or self._signals or order.rank_of(self._worker.rank) is None:
            return
        elif self._starter.is_ready():
            self._start(order, now)

    def _start(self, order: messages.Order, now: float) -> None:
        size, full = len(order.members), len(self._worker.config.endpoints)
        logger.info("generation %d starts with %d of %d worker(s)", order.generation, size, full)
        if size != self._size:  # a step of a smaller group takes longer
            self._size, self._run_times = size, silence.RunTimes()
        self._started, self._generation = order.generation, None
        self._start_failure = None
        try:
            self._generation = generation.Generation(
                self._worker, order, self._starter, self._variables, run_times=self._run_times, now=now
            )
        except (OSError, training_process.StartError) as error:
            message = f"The training process cannot be started in {self._worker.work_dir}: {error}"
            self._own_outcome = self._start_failure = outcomes.build_outcome(_code_of(error), message)
            return
        if self._signals:  # asked while the process was on its way, of which the handler could not know
            self._pass_on()

    # Signals.

    @contextlib.contextmanager
    def _signals_taken(self) -> Iterator[None]:
        previous = {number: signal.signal(number, self.take_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def take_signal(self, _number: int, _frame: object) -> None:
        """Pass a request to stop on: politely the first time, if there is something to save."""
        now = time.monotonic()
        if now - self._signalled_at < _ONE_REQUEST_SECONDS:
            return
        self._signals, self._signalled_at = self._signals + 1, now
        self._pass_on()

    def _pass_on(self) -> None:
        if self._generation is None or not self._generation.is_running:
            return
        self._was_urgent = self._signals > 1 or self._generation.report.phase == "starting"
        if self._was_urgent:
            self._generation.kill()
        else:
            self._generation.ask_to_stop()

    # Reports.

    def _has_process(self) -> bool:
        return self._generation is not None and self._generation.is_running

    def _is_done(self) -> bool:
        return self._own_outcome is not None and self._own_outcome.exit_code == ExitCode.DONE

    def _build_report(self) -> messages.MemberReport:
        endpoint, current = self._worker.endpoint, self._generation
        report = messages.MemberReport(
            rank=self._worker.rank,
            incarnation=self._worker.incarnation,
            host=endpoint.host,
            collective_port=endpoint.collective_port,
            generation=self._started,
            heard=self._order.sequence,
            step=self._shown.step,
            is_stopping=self._signals > 0,
            local_steps=find_local_steps(self._worker),
        )
        if self._stacks is not None:
            report = schema.replace(report, **self._stacks.describe())
        if current is not None:
            return schema.replace(report, **_describe(current))
        if (failure := self._start_failure) is not None:
            return schema.replace(report, state="ended", exit_code=failure.exit_code, message=failure.message)
        return report

    def _show(self) -> None:
        current = self._generation
        shown = self._shown if current is None else current.report
        if not self._has_process() and self._order.action in ("wait", "stop"):
            detail = self._order.message or "waiting for the other workers"
            shown = schema.replace(shown, phase="starting", detail=detail[:500])
        if self._group is not None:
            shown = schema.replace(shown, recoveries=self._group.recoveries()[-progress.MAX_RECOVERIES_TOLD :])
        self._shown = shown

    def _build_outcome(self, code: int, message: str) -> progress.WorkerOutcome:
        own = self._own_outcome
        if own is not None and own.exit_code == code and (_is_own_word(code) or not message):
            return own
        if code == ExitCode.PREEMPTED:
            message = "Stopped; the group goes on from its newest checkpoint when it is started again."
            if self._was_urgent:
                message = "Stopped at once; what was trained since the last checkpoint is lost."
            if self._shown.phase == "starting" and not self._shown.step:
                message = "Stopped before the first step; nothing is lost."
        return outcomes.build_outcome(code, message)


def find_local_steps(worker: environment.WorkerEnvironment) -> tuple[int, ...]:
    """Return the steps of the checkpoints on this worker's disk."""
    return local_copies.local_steps(worker.work_dir)


def _describe(current: generation.Generation) -> dict[str, object]:
    """Return the fields of a report that tell of a training process."""
    report, outcome, verdict, dump = current.report, current.outcome, current.verdict, current.dump
    fields: dict[str, object] = {
        "step": report.step,
        "entered_step": report.entered_step,
        "entered_last_step": report.entered_last_step,
        "phase": report.phase,
        "waiting_for": report.waiting_for,
        "silent_seconds": current.silent_seconds,
        "has_dump": dump is not None,
    }
    if dump is not None:
        fields |= {"place": dump.place, "waiting_for": dump.waits_for or report.waiting_for}
    if outcome is not None:
        return {**fields, "state": "ended", "exit_code": current.exit_code, "message": outcome.message}
    if verdict is not None:
        fields |= {"suspect": verdict.suspect, "message": verdict.message}
    return {**fields, "state": "starting" if report.phase == "starting" else "running"}


def _is_own_word(code: int) -> bool:
    """Tell whether the process itself says best what such an end means; of others the coordinator knows more."""
    return code in (ExitCode.DONE, ExitCode.PREEMPTED) or not exit_codes.find_outcome(code).is_retryable


def _code_of(error: Exception) -> ExitCode:
    is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return ExitCode.DISK_FULL if is_full else ExitCode.INTERNAL
