"""Says which rank of a hung group holds the others up. Pure.

The ranks of a group meet in every step, so one that hangs makes all others wait and be silent too. What tells it from
them, most telling first: its process ended; it stands still; it has finished or entered fewer steps; it waits for input
or is in code of its own while the others wait for their peers; its heart is silent.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

from imagetrain_api import exit_codes

_MARGIN_SECONDS = 2.0  # four beats: less is no difference
_OWN_WAITS = ("input", "storage")
_INNOCENT_CODES = (
    exit_codes.ExitCode.DONE,
    exit_codes.ExitCode.PEER_LOST,
    exit_codes.ExitCode.PREEMPTED,
    exit_codes.ExitCode.FENCED,
)


class Report(Protocol):
    """What is looked at in a `rendezvous.messages.MemberReport`."""

    @property
    def rank(self) -> int: ...  # noqa: D102 - as there
    @property
    def state(self) -> str: ...  # noqa: D102
    @property
    def exit_code(self) -> int | None: ...  # noqa: D102
    @property
    def message(self) -> str: ...  # noqa: D102
    @property
    def step(self) -> int: ...  # noqa: D102
    @property
    def entered_step(self) -> int: ...  # noqa: D102
    @property
    def phase(self) -> str: ...  # noqa: D102
    @property
    def waiting_for(self) -> str: ...  # noqa: D102
    @property
    def silent_seconds(self) -> float: ...  # noqa: D102
    @property
    def suspect(self) -> str: ...  # noqa: D102
    @property
    def place(self) -> str: ...  # noqa: D102


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Guilt:
    """Why a group hangs.

    Attributes:
        rank: that holds the others up; None: it cannot be told.
        reason: CamelCase word.
        message: one line for the user that names the rank, without the step.
    """

    rank: int | None
    reason: str
    message: str


def judge(reports: Sequence[Report], now: float) -> Guilt:  # noqa: ARG001 - a judge is told the time
    """Name the guilty rank of a hung group.

    Take the stacks first: they tell a rank that waits for its peers from one that is in code of its own
    (`stacks.StackDump.waits_for` and `place`). Where two ranks are equally guilty the lower one is named.

    Args:
        reports: the newest of every rank, in any order.
        now: the clock; every figure here is a duration already.
    """
    ordered = sorted(reports, key=lambda report: report.rank)
    if dead := [report for report in ordered if _is_dead(report)]:
        return _accuse_dead(dead[0])
    suspects = [report for report in ordered if report.state in ("starting", "running")]
    if frozen := [report for report in suspects if report.suspect == "frozen"]:
        worst = max(frozen, key=lambda report: report.silent_seconds)
        return Guilt(rank=worst.rank, reason="Frozen", message=worst.message or f"Rank {worst.rank} stood still.")
    if len(suspects) == 1:
        return _accuse(suspects[0], "finished no step in time")
    for narrow in (_behind, _waiting_alone, _in_own_code, _silent_longest):
        suspects = narrow(suspects) or suspects
        if len(suspects) == 1:
            return _accuse(suspects[0], _WHY[narrow])
    return _accuse_nobody(suspects)


def is_excused(reports: Sequence[Report]) -> bool:
    """Tell whether no rank is suspected but for waiting on one that waits itself within its own, longer time.

    Input and checkpoints have more time than a step, for the storage may come back. The ranks that wait for such a rank
    in their next step pass the step's deadline meanwhile, and no restart would help them.
    """
    running = [report for report in reports if report.state in ("starting", "running")]
    busy = [report for report in running if not report.suspect and _is_held_up(report)]
    return bool(busy) and all(report.suspect in ("", "step") for report in running)


def _is_held_up(report: Report) -> bool:
    return report.waiting_for in _OWN_WAITS or report.phase in ("checkpointing", "evaluating")


def _is_dead(report: Report) -> bool:
    return report.state == "ended" and report.exit_code not in (*_INNOCENT_CODES, None)


def _behind(suspects: list[Report]) -> list[Report]:
    """Return those that are behind the first, the last of them only."""
    places = [(report.step, report.entered_step) for report in suspects]
    if not places or min(places) == max(places):
        return []
    return [report for report, place in zip(suspects, places, strict=True) if place == min(places)]


def _waiting_alone(suspects: list[Report]) -> list[Report]:
    waiting = [report for report in suspects if report.waiting_for in _OWN_WAITS]
    return waiting if len(waiting) < len(suspects) else []


def _in_own_code(suspects: list[Report]) -> list[Report]:
    """Return those that wait for nobody, where others are known to wait for their peers."""
    busy = [report for report in suspects if report.waiting_for != "peers"]
    return busy if len(busy) < len(suspects) else []


def _silent_longest(suspects: list[Report]) -> list[Report]:
    if not suspects:
        return []
    longest = max(report.silent_seconds for report in suspects)
    silent = [report for report in suspects if report.silent_seconds > longest - _MARGIN_SECONDS]
    return silent if len(silent) < len(suspects) else []


_WHY: dict[Callable[[list[Report]], list[Report]], str] = {
    _behind: "fell behind the others",
    _waiting_alone: "waited for its input",
    _in_own_code: "the others waited for it",
    _silent_longest: "showed no life",
}


def _accuse_dead(report: Report) -> Guilt:
    code = report.exit_code or 0
    outcome = exit_codes.find_outcome(code)
    reason = "Killed" if code < 0 else outcome.reason
    ending = f"was ended by signal {-code}" if code < 0 else f"failed: {report.message or outcome.meaning}"
    return Guilt(rank=report.rank, reason=reason, message=f"Rank {report.rank} {ending.rstrip('.')}.")


def _accuse(report: Report, why: str) -> Guilt:
    if report.waiting_for in _OWN_WAITS:
        why = f"waited for its {report.waiting_for}"
    place = f" in {report.place}" if report.place else ""
    return Guilt(rank=report.rank, reason="Hung", message=f"Rank {report.rank} hung{place} ({why}).")


def _accuse_nobody(suspects: list[Report]) -> Guilt:
    if not suspects:
        return Guilt(rank=None, reason="Hung", message="The group hung, and no rank of it is left.")
    message = f"Ranks {', '.join(str(report.rank) for report in suspects[:4])} hung, and none is behind the others."
    return Guilt(rank=None, reason="Hung", message=message)
