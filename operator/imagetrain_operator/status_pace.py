"""When a changed status is due to be written: problems and ends at once, ordinary steps and figures a little later.

Each write of a custom resource costs the API server several milliseconds, so steps that follow each other closely are
told in one. Nothing here reads a clock or talks to anybody.
"""

from imagetrain_api.status import JobStatus
from imagetrain_operator import observed
from imagetrain_operator.plan import conditions

SETTLE_SECONDS = 1.0
"""In which a group that gets on is not written of: its pods come in one by one."""
_ORDINARY_PER_SECOND = 2.0
_BURST = 20
"""Ordinary steps of all jobs are written at this rate; where hundreds start at once, each waits up to an interval."""


class StatusPace:
    """Remembers what was written when, and since when a change waits. Times are seconds of one monotonic clock."""

    def __init__(self, interval_seconds: float) -> None:
        """Set the longest wait of any change, which is the shortest time between two writes of figures."""
        self._interval = interval_seconds
        self._written_at: dict[observed.Key, float] = {}
        self._first_seen: dict[observed.Key, float] = {}
        self._ordinary_due: dict[observed.Key, float] = {}
        self._next_free = 0.0  # when the rate of ordinary steps has room again, were there no burst

    def due_at(self, key: observed.Key, old: JobStatus, new: JobStatus, now: float) -> float:
        """Return when the change of a job's status is to be written; 0: at once."""
        first_seen = self._first_seen.setdefault(key, now)
        if conditions.is_minor_change(old, new):
            if old.progress == new.progress:
                return first_seen + self._interval  # a count of ready pods, a wording: the next step tells of them, too
            return self._written_at.get(key, 0.0) + self._interval
        if not conditions.is_ordinary_change(old, new):
            return 0.0
        if key not in self._ordinary_due:
            self._ordinary_due[key] = self._reserve(first_seen)
        return self._ordinary_due[key]

    def _reserve(self, first_seen: float) -> float:
        """Take a place among the ordinary steps (the generic cell rate algorithm, ITU-T I.371)."""
        earliest, latest = first_seen + SETTLE_SECONDS, first_seen + max(SETTLE_SECONDS, self._interval)
        burst_seconds = _BURST / _ORDINARY_PER_SECOND
        place = max(self._next_free, earliest)
        self._next_free = min(place + 1 / _ORDINARY_PER_SECOND, latest + burst_seconds)
        return min(max(earliest, place - burst_seconds), latest)

    def note_written(self, key: observed.Key, now: float) -> None:
        """Remember that a job's status was written."""
        self._written_at[key] = now
        self.note_unchanged(key)

    def note_unchanged(self, key: observed.Key) -> None:
        """Remember that a job's status says what it should."""
        self._first_seen.pop(key, None)
        self._ordinary_due.pop(key, None)

    def forget(self, key: observed.Key) -> None:
        """Forget a job that is gone."""
        self._written_at.pop(key, None)
        self.note_unchanged(key)
