"""What the time of a run went to, from its first start on, in columns of equal width. Pure.

It is part of each checkpoint. What follows the newest one when the group is lost was in vain, and so is the time until
training goes on: on return it is all one gap, a recovery. Where the run had been stopped on purpose the gap is left
out.
"""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

from imagetrain_api import progress

MAX_COLUMNS = 240  # then two become one
_FIRST_WIDTH_SECONDS = 1.0


@dataclasses.dataclass(slots=True)
class Timeline:
    """Seconds by state in each column.

    Attributes:
        end: length so far, in seconds of the run.
        width: of a column, in seconds.
        columns: seconds by state.
        is_stopped: whether the run was asked to stop here.
        restarts: how often the run has come back after a failure.
    """

    end: float = 0.0
    width: float = _FIRST_WIDTH_SECONDS
    columns: list[dict[str, float]] = dataclasses.field(default_factory=list)
    is_stopped: bool = False
    restarts: int = 0

    def add(self, state: str, seconds: float) -> None:
        """Add time at the end."""
        while seconds > 1e-9:
            index = int(self.end / self.width + 1e-9)
            if index >= MAX_COLUMNS:
                self._widen()
                continue
            while len(self.columns) <= index:
                self.columns.append({})
            part = min(seconds, max((index + 1) * self.width - self.end, 1e-6))
            column = self.columns[index]
            column[state] = column.get(state, 0.0) + part
            self.end += part
            seconds -= part

    def turn_into_stall(self, seconds: float) -> None:
        """Call so much of the newest training time a wait for input."""
        for column in reversed(self.columns):
            part = min(seconds, column.get("training", 0.0))
            if part > 0:
                column["training"] -= part
                column["input_stall"] = column.get("input_stall", 0.0) + part
                seconds -= part
            if seconds <= 1e-9:
                return

    def _widen(self) -> None:
        self.width *= 2
        merged = [collections.Counter(each) for each in self.columns[::2]]
        for index, each in enumerate(self.columns[1::2]):
            merged[index].update(each)
        self.columns = [dict(each) for each in merged]

    def as_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        columns = [
            {state: round(seconds, 3) for state, seconds in column.items() if seconds > 0} for column in self.columns
        ]
        return {**dataclasses.asdict(self), "columns": columns}


def from_json(document: Mapping[str, Any]) -> Timeline:
    """Return the timeline that `as_json` made; an empty one of a checkpoint that has none."""
    fields = {field.name: document[field.name] for field in dataclasses.fields(Timeline) if field.name in document}
    return Timeline(**{**fields, "columns": [dict(each) for each in fields.get("columns", ())]})


class Recorder:
    """Keeps the timeline of this process and joins it to that of the processes before.

    Args:
        now: time of any steady clock.
    """

    def __init__(self, now: float) -> None:
        self._timeline = Timeline()
        self._since = now
        self._is_first = True
        self._has_stepped = False

    def account(self, phase: str, now: float) -> None:
        """Add the time since the last call, which was spent in one phase (imagetrain_api.progress.PHASES)."""
        self._timeline.add(self._state_of(phase), max(0.0, now - self._since))
        self._since = now

    def _state_of(self, phase: str) -> str:
        if phase == "publishing":
            return "publishing"
        if not self._has_stepped and phase in ("starting", "training"):  # the first step is the compiler's
            return "starting" if self._is_first else "recovery"
        return {"evaluating": "evaluation", "checkpointing": "checkpoint"}.get(phase, "training")

    def note_steps(self, stall_seconds: float) -> None:
        """Say that steps were finished, after a wait for their input within the time that was accounted for."""
        self._has_stepped = True
        self._timeline.turn_into_stall(stall_seconds)

    def snapshot(self, *, unix: float, is_stopped: bool) -> dict[str, Any]:
        """Return what a checkpoint keeps: the timeline, and the Unix time of it."""
        kept = {**self._timeline.as_json(), "is_stopped": is_stopped}
        return {**kept, "unix": unix}

    def resume(self, kept: Mapping[str, Any], *, unix: float) -> None:
        """Go on from what a checkpoint kept: the time in between is a recovery, unless the run was stopped there."""
        if not kept:
            return
        own = self._timeline.end
        joined = from_json(kept)
        if not joined.is_stopped:
            joined.restarts += 1
            gap = unix - own - kept["unix"]
            joined.add("recovery", max(0.0, gap))
        joined.add("starting" if joined.is_stopped else "recovery", own)
        self._is_first = joined.is_stopped
        joined.is_stopped = False
        self._timeline = joined


def add_up(timeline: Timeline) -> dict[str, float]:
    """Return the seconds of each state over the whole run."""
    return {state: sum(column.get(state, 0.0) for column in timeline.columns) for state in progress.TIME_STATES}
