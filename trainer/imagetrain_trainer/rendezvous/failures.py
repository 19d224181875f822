"""What a member's failure is, and which of several was the cause of the others. Pure."""

import dataclasses
import enum
import signal
from collections.abc import Iterable, Sequence
from typing import Protocol

from imagetrain_api import exit_codes
from imagetrain_trainer.rendezvous import messages

ExitCode = exit_codes.ExitCode

_MAX_MESSAGE = 480  # a `progress.Recovery` has room for 512
_KILLS = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT)  # they come from outside the process
_CRASHES = (ExitCode.INTERNAL, ExitCode.OUT_OF_MEMORY)


class Kind(enum.IntEnum):
    """Kinds of failures; of two in one group the lower is the likelier cause of the other."""

    FINAL = 0  # the process says that another start does not help
    KILLED = 1  # the process was ended by a signal
    FAILED = 2  # the process ended with an error of its own
    GONE = 3  # the supervisor was lost
    HUNG = 4  # a deadline passed
    PREEMPTED = 5  # the process stopped because it was asked to
    PEER_LOST = 6  # the process says that another one failed


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a generation ends.

    Attributes:
        kind: what it is.
        rank: guilty rank of the full group; None where none was found.
        exit_code: exit status that tells the same.
        status: how the process ended, negative by a signal; None where that is unknown.
        reason: CamelCase word.
        message: one line that names the rank.
        step: the step that the rank was about to run, or had finished.
        last_step: last of the steps that it ran together from there; any of them may be the one that failed.
        is_in_step: whether `step` was begun and not finished.
        phase: the rank's phase.
        can_heal: whether it is gone when the supervisor is heard of again.
        was_asked: whether its own supervisor was asked to stop; others stop together with it.
    """

    kind: Kind
    rank: int | None
    exit_code: int
    reason: str
    message: str
    status: int | None = None
    step: int = 0
    last_step: int = 0
    is_in_step: bool = False
    phase: str = ""
    can_heal: bool = False
    was_asked: bool = False

    @property
    def is_sure(self) -> bool:
        """Tell whether no other rank's failure can have caused it."""
        return self.kind in (Kind.FINAL, Kind.KILLED)

    @property
    def is_crash(self) -> bool:
        """Tell whether it is an end that the data of the step may have caused."""
        return self.phase != "starting" and (self.status or 0) in _crash_statuses()

    @property
    def is_from_outside(self) -> bool:
        """Tell whether somebody else may have ended the process."""
        return self.status in _KILLS

    def repeats(self, earlier: "Failure | None", *, has_stepped: bool) -> bool:
        """Tell whether the same crash has hit the same step once more, on whatever rank, so that it will again.

        A signal from outside counts in training alone and only if a step was finished since the restart: publishing
        and the first step take long, and two strangers' kills may well meet there.
        """
        if earlier is None or not self.is_crash or (self.status, self.phase) != (earlier.status, earlier.phase):
            return False
        if self.is_from_outside and not (has_stepped and self.phase == "training" and self.rank == earlier.rank):
            return False
        return self.step <= earlier.last_step and earlier.step <= self.last_step


class Guilt(Protocol):
    """What a judge of a hung group says (`worker.guilt.Guilt`)."""

    @property
    def rank(self) -> int | None:
        """The rank that is behind the others; None: it cannot be told."""

    @property
    def reason(self) -> str:
        """CamelCase word."""

    @property
    def message(self) -> str:
        """One line that names the rank."""


class Judge(Protocol):
    """Says which rank of a hung group is guilty, from the last reports of its running processes."""

    def __call__(self, reports: Sequence[messages.MemberReport], now: float, /) -> Guilt:
        """Judge; `now` is the coordinator's monotonic clock."""


def explain_end(report: messages.MemberReport) -> Failure | None:
    """Return the failure of a process that is no longer there; None: it is done."""
    status = report.exit_code if report.state == "ended" else None
    if status == ExitCode.DONE:
        return None
    kind = _kind(report, status)
    if kind == Kind.PREEMPTED:
        return explain_stop(report.rank, was_asked=report.is_stopping)
    code = ExitCode.INTERNAL if status is None or status < 0 else status
    outcome = exit_codes.find_outcome(code)
    step = max(report.step, report.entered_step)
    is_in_step = report.phase == "training" and report.entered_step > report.step
    return Failure(
        kind=kind,
        rank=report.rank,
        exit_code=int(code),
        status=status,
        reason=outcome.reason if status is None or status >= 0 else "Killed",
        message=_describe_end(report, status, outcome.meaning),
        step=step,
        last_step=max(step, report.entered_last_step) if is_in_step else step,
        is_in_step=is_in_step,
        phase="starting" if report.state == "starting" else report.phase,
    )


def explain_absence(rank: int | None, message: str, *, reason: str = "Lost", can_heal: bool = False) -> Failure:
    """Return the failure of a supervisor that is no longer there."""
    code = ExitCode.PEER_LOST
    return Failure(kind=Kind.GONE, rank=rank, exit_code=code, reason=reason, message=message, can_heal=can_heal)


def explain_stop(rank: int, *, can_heal: bool = False, was_asked: bool = True) -> Failure:
    """Return the failure of a rank that stopped, as its supervisor or another one was asked to."""
    return Failure(
        kind=Kind.PREEMPTED,
        rank=rank,
        exit_code=ExitCode.PREEMPTED,
        reason=exit_codes.OUTCOMES[ExitCode.PREEMPTED].reason,
        message=f"Rank {rank} was asked to stop.",
        can_heal=can_heal,
        was_asked=was_asked,
    )


def explain_hang(guilt: Guilt, failed: Sequence[Failure], fallback: str) -> Failure:
    """Return the failure of a hung group as judged; never the fault of a rank that only says that it lost a peer."""
    rank = guilt.rank
    if any(each.rank == rank and each.kind == Kind.PEER_LOST for each in failed):
        rank = None
    cause = find_cause(failed)
    if cause is not None and (cause.kind == Kind.FINAL or (rank is None and cause.kind != Kind.PEER_LOST)):
        return cause
    return Failure(
        kind=Kind.HUNG,
        rank=rank,
        exit_code=ExitCode.HUNG,
        reason=(guilt.reason or "Hung")[:64],
        message=one_line(guilt.message if rank == guilt.rank and guilt.message else fallback),
    )


def find_cause(failed: Iterable[Failure]) -> Failure | None:
    """Return the failure that caused the others; they come in the order of time. No rank is guilty of a lost peer."""
    ordered = list(failed)
    if not ordered:
        return None
    cause = min(ordered, key=lambda each: (each.kind, not each.was_asked))  # the first of a kind
    if cause.kind != Kind.PEER_LOST:
        return cause
    ranks = sorted(each.rank for each in ordered if each.rank is not None)
    return dataclasses.replace(
        cause, rank=None, message=f"{name_ranks(ranks)} lost the connection to the others; no worker failed."
    )


def name_ranks(ranks: Sequence[int]) -> str:
    """Return "Rank 1", "Ranks 1 and 2", "Ranks 1, 2, 3 and 61 more"."""
    if len(ranks) == 1:
        return f"Rank {ranks[0]}"
    if len(ranks) > 4:
        return f"Ranks {', '.join(map(str, ranks[:3]))} and {len(ranks) - 3} more"
    return f"Ranks {', '.join(map(str, ranks[:-1]))} and {ranks[-1]}"


def one_line(text: str) -> str:
    """Return the text in one line that fits a record."""
    text = " ".join(text.split())
    return text if len(text) <= _MAX_MESSAGE else text[: _MAX_MESSAGE - 1] + "…"


def _kind(report: messages.MemberReport, status: int | None) -> Kind:
    if status == ExitCode.PREEMPTED:
        return Kind.PREEMPTED
    if status is not None and status >= 0 and not exit_codes.find_outcome(status).is_retryable:
        return Kind.FINAL
    if report.is_stopping:
        return Kind.PREEMPTED
    if status == ExitCode.PEER_LOST:
        return Kind.PEER_LOST
    if status is not None and (status < 0 or status == ExitCode.OUT_OF_MEMORY):
        return Kind.KILLED
    return Kind.FAILED


def _describe_end(report: messages.MemberReport, status: int | None, meaning: str) -> str:
    rank = f"Rank {report.rank}"
    if status is None:
        return f"{rank} lost its training process."
    if status < 0:
        verb = "killed" if status in _KILLS else "ended"
        return f"{rank} was {verb} ({_signal_name(-status)})."
    return one_line(f"{rank} failed: {report.message or meaning}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _crash_statuses() -> frozenset[int]:
    return frozenset(_CRASHES) | frozenset(range(-64, 0))
