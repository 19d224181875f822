"""Records of ended attempts, and when the next one may start."""

import datetime as dt

from imagetrain_api import status as api_status
from imagetrain_api.status import AttemptStatus, JobStatus
from imagetrain_operator.plan import conditions, failures
from imagetrain_operator.plan.draft import Draft

# An attempt that fails sooner made no use of its start; such ones are started again at growing intervals.
QUICK_FAILURE_SECONDS = 120.0
_FIRST_DELAY_SECONDS = 10.0
_MAX_DELAY_SECONDS = 300.0


def record(draft: Draft, reason: str, message: str, failure: failures.Failure | None) -> None:
    """Keep what ended the newest attempt, once."""
    status = draft.status
    if status.attempt is None or (status.attempts and status.attempts[-1].attempt == status.attempt):
        return
    figures = status.progress
    ended = AttemptStatus(
        attempt=status.attempt,
        start_time=status.attempt_start_time,
        end_time=conditions.format_time(draft.now),
        reason=reason,
        message=conditions.cut(message),
        rank=failure.rank if failure else None,
        exit_code=failure.exit_code if failure else None,
        step=figures.step if figures else None,
        checkpoint_step=figures.checkpoint_step if figures else None,
    )
    draft.change(attempts=(*status.attempts, ended)[-api_status.MAX_ATTEMPTS_KEPT :])


def delay_before_next(status: JobStatus, now: dt.datetime) -> float:
    """Return the seconds until the next attempt may start.

    The first restart is immediate. From the second quick failure in a row on, the wait is 10 s, 20 s, 40 s ... 300 s.
    """
    quick = 0
    for ended in reversed(status.attempts):
        if ended.reason in failures.DISRUPTIONS or not _was_quick(ended):
            break
        quick += 1
    if quick < 2 or not status.attempts:
        return 0.0
    last_end = conditions.parse_time(status.attempts[-1].end_time)
    if last_end is None:
        return 0.0
    delay = min(_FIRST_DELAY_SECONDS * 2.0 ** (quick - 2), _MAX_DELAY_SECONDS)
    return max(0.0, delay - (now - last_end).total_seconds())


def _was_quick(ended: AttemptStatus) -> bool:
    start, end = conditions.parse_time(ended.start_time), conditions.parse_time(ended.end_time)
    return start is not None and end is not None and (end - start).total_seconds() < QUICK_FAILURE_SECONDS
