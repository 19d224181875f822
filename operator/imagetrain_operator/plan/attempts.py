"""Records of ended attempts, what each of them cost, and when the next one may start."""

import datetime as dt

from imagetrain_api import progress, schema
from imagetrain_api import status as api_status
from imagetrain_api.status import AttemptStatus, JobStatus, ProgressStatus
from imagetrain_operator.plan import causes, conditions
from imagetrain_operator.plan.draft import Draft

# An attempt that fails sooner made no use of its start; such ones are started again at growing intervals.
QUICK_FAILURE_SECONDS = 120.0
_FIRST_DELAY_SECONDS = 10.0
_MAX_DELAY_SECONDS = 300.0
_MAX_AGE_SECONDS = 120.0  # of a report: it is asked for every few seconds

EVENT = "Recovered"


def record(draft: Draft, reason: str, message: str, failure: causes.Failure | None) -> None:
    """Keep what ended the newest attempt, once."""
    status = draft.status
    if status.attempt is None or (status.attempts and status.attempts[-1].attempt == status.attempt):
        return
    figures = status.progress
    is_redone = open_record(status) is not None  # it did not get further than the one before
    if is_redone:
        _close(draft, draft.now)
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
        lost_since=_lost_since(draft, reason, is_redone=is_redone),
    )
    draft.change(attempts=(*draft.status.attempts, ended)[-api_status.MAX_ATTEMPTS_KEPT :])


def _lost_since(draft: Draft, reason: str, *, is_redone: bool) -> str | None:
    if reason == "Suspended":
        return None
    if is_redone:  # what was lost until now is the earlier attempt's
        return conditions.format_time(draft.now)
    figures = draft.status.progress
    return (figures.step_time if figures else None) or draft.status.attempt_start_time


def open_record(status: JobStatus) -> AttemptStatus | None:
    """Return the newest attempt that ended and is not caught up with yet, if there is one."""
    ended = status.attempts[-1] if status.attempts else None
    return ended if ended is not None and ended.lost_since is not None and ended.lost_seconds is None else None


def note_progress(draft: Draft, report: progress.Progress, told: ProgressStatus) -> None:
    """Note where the newest attempt went on, and what the end of the one before has cost once it is further."""
    ended = open_record(draft.status)
    if ended is None or ended.attempt == draft.status.attempt:
        return
    if not conditions.is_true(draft.status, "Training") and ended.resumed_step is None:
        _change_last(draft, resumed_step=told.checkpoint_step or 0)
    newest = max(each.step or 0 for each in draft.status.attempts)
    is_done = report.phase in ("publishing", "done")
    if told.step > newest or (is_done and told.step == newest):
        _close(draft, _told_at(draft, report), goes_on=True)


def close_at_the_end(draft: Draft) -> None:
    """Note what an ended attempt has cost where the run was over before its chief told of a further step."""
    if open_record(draft.status) is not None:
        _close(draft, draft.now, goes_on=True)


def _told_at(draft: Draft, report: progress.Progress) -> dt.datetime:
    """Return when a report was made; a clock that is wrong by much is not believed."""
    told = report.updated_at
    return dt.datetime.fromtimestamp(told, dt.UTC) if 0 < draft.now.timestamp() - told < _MAX_AGE_SECONDS else draft.now


def _close(draft: Draft, until: dt.datetime, *, goes_on: bool = False) -> None:
    ended = draft.status.attempts[-1]
    since = conditions.parse_time(ended.lost_since)
    if since is None:
        return
    _change_last(draft, lost_seconds=round(max(0.0, (until - since).total_seconds()), 1))
    if goes_on:
        draft.announce("Warning", EVENT, describe_recovery(draft.status))


def _change_last(draft: Draft, **changes: object) -> None:
    *earlier, last = draft.status.attempts
    draft.change(attempts=(*earlier, schema.replace(last, **changes)))


def describe_recovery(status: JobStatus) -> str:
    """Return in one line what the newest ended attempt has cost."""
    ended = status.attempts[-1]
    who = "" if ended.rank is None else f", rank {ended.rank}"
    where = "before its first step" if ended.step is None else f"at step {ended.step}"
    begins = {None: "", 0: " from the start"}  # one whose first reports did not arrive is known to go on, and no more
    begin = begins.get(ended.resumed_step, f" from step {ended.resumed_step}")
    return (
        f"Attempt {ended.attempt} ended {where} ({ended.reason}{who}); attempt {status.attempt} went on{begin}, "
        f"{ended.lost_seconds:.0f} s lost."
    )


def delay_before_next(status: JobStatus, now: dt.datetime) -> float:
    """Return the seconds until the next attempt may start.

    The first restart is immediate. From the second quick failure in a row on, the wait is 10 s, 20 s, 40 s ... 300 s.
    """
    quick = 0
    for ended in reversed(status.attempts):
        if ended.reason in causes.DISRUPTIONS or not _was_quick(ended):
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
