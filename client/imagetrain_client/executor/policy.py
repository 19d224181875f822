"""Pure decisions about a local group: what its workers' ends mean, when to try again, whom to end and when.

No process, clock or file is touched here.
"""

import dataclasses
import math
import signal
from collections.abc import Sequence

from imagetrain_api import exit_codes
from imagetrain_api.exit_codes import ExitCode

CHIEF = 0

# A group that ends by its coordinator's word ends within 2 s. After a supervisor that was killed, which nobody starts
# again in its place, the others have ended their training processes and wait for it in vain.
PEER_EXIT_SECONDS = 5.0
# No attempt follows a permanent error, and nothing is saved at the start.
PEER_EXIT_AT_ONCE_SECONDS = 3.0
TERMINATE_SECONDS = 5.0  # between SIGTERM and SIGKILL, in a group that is broken already
STOP_AT_START_SECONDS = 10.0  # nothing is trained yet, so there is nothing to save
SAVE_SECONDS = 300.0  # a checkpoint on a slow link; somebody in a hurry interrupts a second time
HURRY_SECONDS = 2.0  # between a second interrupt and SIGKILL
FIRST_BACKOFF_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 30.0

# Somebody outside took the worker away (the kernel's out-of-memory killer, an administrator); any other is a crash.
_TAKEN_AWAY = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEnd:
    """How one worker ended.

    Attributes:
        rank: which one.
        status: exit status; negative: the signal that ended it.
        at_seconds: when, on any one clock.
        was_ended: this command ended it after another worker's end, so its status tells nothing.
        message: its own account of it, or empty.
        has_word: whether it left any account of this end.
    """

    rank: int
    status: int
    at_seconds: float
    was_ended: bool = False
    message: str = ""
    has_word: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the end of a whole group means: the exit code, the rank that explains it, and one line."""

    exit_code: ExitCode
    rank: int
    message: str

    @property
    def outcome(self) -> exit_codes.Outcome:
        """The exit code's row of the table."""
        return exit_codes.OUTCOMES[self.exit_code]


def exit_code_of(status: int) -> ExitCode:
    """Return the code of a process's end; death by signal and unknown statuses count as what they most resemble."""
    if status < 0:
        return ExitCode.PEER_LOST if -status in _TAKEN_AWAY else ExitCode.INTERNAL
    try:
        return ExitCode(status)
    except ValueError:
        return ExitCode.INTERNAL


def is_lost(end: WorkerEnd) -> bool:
    """Tell whether a worker died without a word, by a signal or in a crash, so that its peers wait for another one.

    A worker that leaves by its coordinator's order, or because its peers stay away, says so.
    """
    if end.was_ended or end.has_word:
        return False
    return end.status < 0 or exit_code_of(end.status) is ExitCode.INTERNAL


def judge(ends: Sequence[WorkerEnd]) -> Verdict:
    """Return what the ends of all workers mean together.

    A chief that is done has published: the group is done whatever its peers did. Otherwise the most telling end counts:
    a permanent error before a passing one, both before a worker that was only asked to stop, and all before one that
    merely missed another; among equals the first.
    """
    chief = next(end for end in ends if end.rank == CHIEF)
    if chief.status == ExitCode.DONE and not chief.was_ended:
        return Verdict(exit_code=ExitCode.DONE, rank=CHIEF, message=chief.message)
    failed = [end for end in ends if end.status != ExitCode.DONE]
    telling = min(failed or [chief], key=lambda end: (end.was_ended, _weight(end), end.at_seconds))
    code = exit_code_of(telling.status)
    if code is ExitCode.DONE:  # the chief was ended after it had finished, or no rank failed and none published
        code = ExitCode.PEER_LOST
    return Verdict(exit_code=code, rank=telling.rank, message=describe_end(telling))


def _weight(end: WorkerEnd) -> int:
    code = exit_code_of(end.status)
    if not exit_codes.OUTCOMES[code].is_retryable:
        return 0
    if end.status < 0 or code not in (ExitCode.PREEMPTED, ExitCode.PEER_LOST):
        return 1
    return 2 if code is ExitCode.PREEMPTED else 3


def describe_end(end: WorkerEnd) -> str:
    """Return in one line what a worker's end means."""
    code = exit_code_of(end.status)
    if end.message:
        return end.message
    if end.status >= 0:
        known = "" if end.status == code else f" Its exit status was {end.status}."
        return exit_codes.OUTCOMES[code].meaning + known
    name = signal.Signals(-end.status).name if -end.status in list(signal.Signals) else f"signal {-end.status}"
    hint = " (by the kernel, if memory ran out)" if -end.status == signal.SIGKILL else ""
    return f"The worker was ended by {name}{hint}."


def patience_seconds(ends: Sequence[WorkerEnd], chief_phase: str) -> float:
    """Return how long after the first of `ends` the remaining workers may go on before they are ended too.

    A rank that is done leaves early while the chief publishes, and the chief publishes without its peers; a rank that
    was asked to stop leaves early while the chief uploads the checkpoint.

    Args:
        ends: the ends so far, at least one.
        chief_phase: the chief's newest phase (imagetrain_api.progress.PHASES).
    """
    codes = {exit_code_of(end.status) for end in ends}
    is_chief_running = all(end.rank != CHIEF for end in ends)
    if is_chief_running and (chief_phase in ("publishing", "done") or codes <= {ExitCode.DONE}):
        return math.inf
    is_final = any(not exit_codes.OUTCOMES[code].is_retryable and code is not ExitCode.DONE for code in codes)
    if is_final or chief_phase == "starting":
        return PEER_EXIT_AT_ONCE_SECONDS
    if is_chief_running and codes <= {ExitCode.DONE, ExitCode.PREEMPTED}:
        return SAVE_SECONDS
    return PEER_EXIT_SECONDS


def stop_seconds(requests: int, *, has_started: bool) -> float:
    """Return how long workers get to end after the newest of `requests` to stop.

    Args:
        requests: how often it was asked.
        has_started: whether training had begun, so that there is something to save.
    """
    if requests > 1:
        return HURRY_SECONDS
    return SAVE_SECONDS if has_started else STOP_AT_START_SECONDS


def backoff_seconds(failures_in_a_row: int) -> float:
    """Return the wait before a restart: 1 s after the first failure without progress, doubled up to 30 s."""
    return float(min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** min(failures_in_a_row - 1, 10)))


# Ends that a run which was asked to stop still reports: its state may not have been saved.
_TELLING_WHEN_STOPPED = frozenset({ExitCode.STORAGE_UNAVAILABLE, ExitCode.DISK_FULL})


# A crash that comes back at the same step, again and again, is a fault that no restart mends.
_CRASHES_IN_A_ROW = 3


def conclude(
    verdict: Verdict, *, is_stopping: bool, restarts: int, max_restarts: int, failures_in_a_row: int = 1
) -> ExitCode | None:
    """Return the exit code of a run that is over with this attempt, or None when the group starts again.

    Args:
        verdict: what the attempt's end means.
        is_stopping: whether the run was asked to stop.
        restarts: how often the group was started again so far, in place too.
        max_restarts: `spec.recovery.maxRestarts`.
        failures_in_a_row: attempts, with this one, that ended without a step more than the one before.
    """
    if not verdict.outcome.is_retryable:
        return verdict.exit_code
    if is_stopping:
        return verdict.exit_code if verdict.exit_code in _TELLING_WHEN_STOPPED else ExitCode.PREEMPTED
    is_hopeless = verdict.exit_code is ExitCode.INTERNAL and failures_in_a_row >= _CRASHES_IN_A_ROW
    return verdict.exit_code if is_hopeless or restarts >= max_restarts else None
