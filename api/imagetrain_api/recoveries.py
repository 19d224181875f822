"""Recoveries in place, in words: which of them are over, and each in one line. Pure."""

import re
from collections.abc import Sequence

from imagetrain_api.progress import Recovery

_NAMES_A_STEP = re.compile(r"\bsteps? \d")


def finished(told: Sequence[Recovery]) -> tuple[Recovery, ...]:
    """Return those of a report's recoveries that are over: the group is behind the step again, or was lost anew."""
    return tuple(each for index, each in enumerate(told) if each.resumed_at is not None or index < len(told) - 1)


def running(told: Sequence[Recovery]) -> Recovery | None:
    """Return the recovery that is not over yet, if there is one."""
    return told[-1] if told and told[-1].resumed_at is None else None


def describe(recovery: Recovery) -> str:
    """Return a recovery that is over in one line."""
    begin = "the start" if recovery.resumed_step is None else f"step {recovery.resumed_step}"
    lost = f"{recovery.lost_seconds:.1f} s lost"
    if recovery.resumed_at is None:
        return f"{describe_cause(recovery)}; the group failed again before it had caught up, {lost}."
    return f"{describe_cause(recovery)}; the group goes on from {begin} in place, {lost}."


def describe_cause(recovery: Recovery) -> str:
    """Return what ended a generation, and where: `Rank 1 was killed (SIGKILL) at step 120`, without a full stop."""
    cause = " ".join(recovery.message.split()).rstrip(".") or _nameless(recovery)
    return cause if _NAMES_A_STEP.search(cause) else f"{cause} at step {recovery.step}"


def _nameless(recovery: Recovery) -> str:
    who = "The group" if recovery.rank is None else f"Rank {recovery.rank}"
    return f"{who} was lost ({recovery.reason})"
