"""What a run tells of its failures: recoveries in place, and restarts of the whole group, in one form."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One failure, as the run tells it.

    Attributes:
        reason: CamelCase word.
        rank: whom the run calls guilty; None: nobody.
        message: one line.
        step: newest step before it; None where the run does not tell.
        resumed_step: step of the checkpoint that it went on from.
        lost_seconds: what it cost; 0 where the run does not tell.
        is_in_place: whether the supervisors lived on.
        is_over: whether a step behind `step` was finished since; a restart does not tell.
        dump_uri: where the stacks lie.
    """

    reason: str
    rank: int | None
    message: str
    step: int | None
    resumed_step: int | None
    lost_seconds: float
    is_in_place: bool
    is_over: bool
    dump_uri: str | None = None


def collect(events: Iterable[Mapping[str, Any]]) -> list[Record]:
    """Return the records among the lines of `imagetrain run --json`, each recovery in its newest form.

    A failure that supervisors cannot get over in place is told twice, by them and by the command: the latter counts.
    """
    found: dict[object, Record] = {}
    attempt = 0
    for event in events:
        if event["event"] == "restarted":
            for key in [key for key, record in found.items() if not record.is_over]:
                del found[key]
            attempt = event["restart"]
            found["restart", attempt] = _of_restart(event)
        told = (event["recovery"],) if event["event"] == "recovered" else ()
        for recovery in (*told, *event.get("progress", {}).get("recoveries", ())):
            # The same generation may be told of by two attempts: each begins with a coordinator of its own.
            found["recovery", attempt, recovery["generation"]] = _of_recovery(recovery)
    return list(found.values())


def _of_restart(event: Mapping[str, Any]) -> Record:
    return Record(
        reason=event["reason"],
        rank=event["rank"],
        message=event["message"],
        step=None,
        resumed_step=event["resumeStep"],
        lost_seconds=event.get("lostSeconds", 0.0),
        is_in_place=False,
        is_over=True,
    )


def _of_recovery(recovery: Mapping[str, Any]) -> Record:
    return Record(
        reason=recovery["reason"],
        rank=recovery.get("rank"),
        message=recovery.get("message", ""),
        step=recovery.get("step"),
        resumed_step=recovery.get("resumedStep"),
        lost_seconds=recovery.get("lostSeconds", 0.0),
        is_in_place=True,
        is_over=recovery.get("resumedAt") is not None,
        dump_uri=recovery.get("dumpUri"),
    )
