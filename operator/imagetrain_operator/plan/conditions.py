"""Conditions and the small arithmetic of a status: pure, and without any knowledge of pods."""

import dataclasses
import datetime as dt

from imagetrain_api import schema
from imagetrain_api import status as api_status
from imagetrain_api.status import Condition, JobStatus

TRUE, FALSE = "True", "False"
SHRUNK = "Shrunk"  # reason of WorkersReady=False, where the group goes on without some of its workers


def format_time(moment: dt.datetime) -> str:
    """Return RFC 3339 in UTC with whole seconds, as Kubernetes writes times."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str | None) -> dt.datetime | None:
    """Return the moment of an RFC 3339 text; None where there is none."""
    try:
        return dt.datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def find(status: JobStatus, kind: str) -> Condition | None:
    """Return the condition of one type."""
    return next((condition for condition in status.conditions if condition.type == kind), None)


def is_true(status: JobStatus, kind: str) -> bool:
    """Tell whether a condition is there and True."""
    condition = find(status, kind)
    return condition is not None and condition.status == TRUE


def has_group(status: JobStatus) -> bool:
    """Tell whether the newest attempt's group was at work: with all workers, or with those that suffice."""
    condition = find(status, "WorkersReady")
    return condition is not None and (condition.status == TRUE or condition.reason == SHRUNK)


def is_terminal(status: JobStatus) -> bool:
    """Tell whether the job has reached its end, from which nothing leads away."""
    return is_true(status, "Succeeded") or is_true(status, "Failed")


def with_condition(
    status: JobStatus, kind: str, answer: str, reason: str, message: str, generation: int, now: dt.datetime
) -> JobStatus:
    """Return a status with one condition set; its time changes with its answer alone."""
    known = find(status, kind)
    message = cut(message)
    told = (known.status, known.reason, known.message, known.observed_generation) if known else None
    if told == (answer, reason, message, generation):
        return status
    changed_at = known.last_transition_time if known and known.status == answer else format_time(now)
    condition = Condition(
        type=kind,
        status=answer,
        reason=reason,
        message=message,
        observed_generation=generation,
        last_transition_time=changed_at,
    )
    others = [other for other in status.conditions if other.type != kind]
    ordered = sorted([*others, condition], key=lambda each: api_status.CONDITIONS.index(each.type))
    return schema.replace(status, conditions=tuple(ordered))


def is_minor_change(old: JobStatus, new: JobStatus) -> bool:
    """Tell whether only figures and wordings differ, which may wait for the next write."""
    return _essence(old) == _essence(new)


def is_ordinary_change(old: JobStatus, new: JobStatus) -> bool:
    """Tell whether a group is just getting on, step by step within a second: one write can tell of several steps."""
    if new.phase not in _ON_ITS_WAY or new.reason not in _ORDINARY_REASONS:
        return False
    if old == JobStatus():
        return True  # nothing was ever written
    return old.phase in _ON_ITS_WAY and all(getattr(old, name) == getattr(new, name) for name in _NEVER_ORDINARY)


_ON_ITS_WAY = ("Starting", "Restarting", "Training", "Publishing")
_NEVER_ORDINARY = ("attempt", "restarts", "recoveries", "observed_generation")
_ORDINARY_REASONS = ("StartingWorkers", "WorkersReady", "Training", "Publishing")
_MINOR_FIELDS = ("ready", "message", "progress", "conditions")
_ESSENTIAL_FIELDS = tuple(field.name for field in dataclasses.fields(JobStatus) if field.name not in _MINOR_FIELDS)


def _essence(status: JobStatus) -> tuple[object, ...]:
    fields = [getattr(status, name) for name in _ESSENTIAL_FIELDS]
    return *fields, *((each.type, each.status, each.reason) for each in status.conditions)


def cut(text: str) -> str:
    """Return a message cut to what a status may hold."""
    limit = api_status.MAX_MESSAGE_CHARACTERS
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def format_duration(seconds: float) -> str:
    """Return a duration to be read, of at most two units: `45s`, `2m10s`, `3h05m`, `2d04h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h{minutes:02}m"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours:02}h"
