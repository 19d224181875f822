"""Recoveries in place, as the chief tells of them: records in the status, events, and the state while one runs."""

import dataclasses
import datetime as dt
from collections.abc import Sequence

from imagetrain_api import progress, recoveries
from imagetrain_api import status as api_status
from imagetrain_api.status import RecoveryStatus
from imagetrain_operator.plan import attempts, conditions
from imagetrain_operator.plan.draft import Draft

EVENT = attempts.EVENT

# A worker that was taken away, or a connection that broke: neither is the job's fault.
DISRUPTIONS = frozenset({"Lost", "PeerLost", "Preempted"})


def record(draft: Draft, told: Sequence[progress.Recovery]) -> None:
    """Keep, count and announce each recovery of the newest attempt that is over.

    What the status holds was announced. A recovery counts towards `spec.recovery.maxRestarts` as a restart of the group
    does, unless the cluster or a person is to blame.
    """
    attempt = draft.status.attempt
    assert attempt is not None
    dumps = {(attempt, each.generation): each.dump_uri for each in told}
    kept = tuple(_with_dump(each, dumps.get((each.attempt, each.generation))) for each in draft.status.recoveries)
    known = {(each.attempt, each.generation) for each in kept}
    fresh = [
        _build_record(attempt, each) for each in recoveries.finished(told) if (attempt, each.generation) not in known
    ]
    for each in fresh:
        draft.announce("Warning", EVENT, each.message)
    if kept != draft.status.recoveries:
        draft.change(recoveries=kept)
    if fresh:
        counted = sum(1 for each in fresh if each.reason not in DISRUPTIONS)
        draft.change(restarts=draft.status.restarts + counted)
        draft.change(recoveries=(*kept, *fresh)[-api_status.MAX_RECOVERIES_KEPT :])


def _with_dump(kept: RecoveryStatus, dump_uri: str | None) -> RecoveryStatus:
    """Add where the stacks lie, which is told once they lie there: the group may go on before."""
    return kept if dump_uri is None else dataclasses.replace(kept, dump_uri=dump_uri)


def _build_record(attempt: int, told: progress.Recovery) -> RecoveryStatus:
    return RecoveryStatus(
        attempt=attempt,
        generation=told.generation,
        message=conditions.cut(recoveries.describe(told)),
        time=_format_time(told.detected_at),
        reason=told.reason,
        rank=told.rank,
        step=told.step,
        resumed_step=told.resumed_step,
        lost_seconds=round(told.lost_seconds, 1),
        dump_uri=told.dump_uri,
        dump_head=told.dump_head or None,
    )


def _format_time(unix_seconds: float) -> str | None:
    try:
        return conditions.format_time(dt.datetime.fromtimestamp(unix_seconds, dt.UTC)) if unix_seconds else None
    except (ValueError, OverflowError, OSError):  # beyond the year 9999
        return None


def describe_running(draft: Draft, running: progress.Recovery) -> None:
    """Say that the training processes were lost and are being started again in the same pods."""
    message = f"{recoveries.describe_cause(running)}; the group starts again in place, from its newest checkpoint."
    draft.set_condition("Training", conditions.FALSE, running.reason, message)
    draft.set_state("Restarting", running.reason, message)


def is_in_place(draft: Draft) -> bool:
    """Tell whether the status speaks of a restart in place, and not of a new attempt."""
    before = draft.seen.job.status
    return before.phase == "Restarting" and conditions.has_group(before)
