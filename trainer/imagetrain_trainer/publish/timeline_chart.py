"""The run's time as a picture of stacked columns, and its goodput, as plain numbers for the report's template. Pure."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from imagetrain_api import progress
from imagetrain_trainer.publish import figures

WIDTH, HEIGHT = 1000, 120
_PLOT_HEIGHT = 90
_LEFT, _RIGHT = 8, 992
_MAX_TICKS = 10
_TICK_STEPS_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)

# What the user asked for. The rest is what it costs to get there; to publish comes after it.
PRODUCTIVE = ("training", "evaluation")
_STATES = tuple(state for state in progress.TIME_STATES if state != "publishing")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """One state: `path` is SVG, `text` its time and share."""

    state: str
    name: str
    path: str
    text: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A mark on the axis of time."""

    position: float
    label: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TimelineChart:
    """The picture in a coordinate system of WIDTH by HEIGHT; `seconds` is the time it shows."""

    bands: tuple[Band, ...]
    ticks: tuple[Tick, ...]
    seconds: float
    goodput: float
    restarts: int
    width: int = WIDTH
    height: int = HEIGHT
    bottom: int = _PLOT_HEIGHT


def build_timeline_chart(kept: Mapping[str, Any]) -> TimelineChart | None:
    """Draw what a run's time went to.

    Args:
        kept: `timeline` of history.json: `columns` of `width` seconds, each with the seconds of its states, and the
            number of `restarts`; the states are those of `imagetrain_api.progress.TIME_STATES`.

    Returns:
        None where no time is known.
    """
    columns = [{state: column.get(state, 0.0) for state in _STATES} for column in kept.get("columns", ())]
    sums = {state: sum(column[state] for column in columns) for state in _STATES}
    total = sum(sums.values())
    if not total:
        return None
    while not any(columns[-1].values()):
        columns.pop()
    width = kept["width"]
    scale = (_RIGHT - _LEFT) / (len(columns) * width)
    return TimelineChart(
        bands=tuple(
            Band(
                state=state,
                name=state.replace("_", " "),
                path=_draw(columns, state, width * scale, width),
                text=f"{figures.format_seconds(sums[state])}, {figures.format_share(sums[state] / total)}",
            )
            for state in _STATES
            if sums[state]
        ),
        ticks=_build_ticks(len(columns) * width, scale),
        seconds=total,
        goodput=sum(sums[state] for state in PRODUCTIVE) / total,
        restarts=kept.get("restarts", 0),
    )


def _draw(columns: Sequence[Mapping[str, float]], state: str, step: float, width: float) -> str:
    """Return rectangles, one for each run of columns in which the state lies alike."""
    levels = [_place(column, state, width) for column in columns]
    parts, index = [], 0
    for (low, high), group in itertools.groupby(levels):
        length = len(list(group))
        if high > low:
            x, y = _LEFT + index * step, _PLOT_HEIGHT * (1 - high)
            across, up = length * step, _PLOT_HEIGHT * (high - low)
            parts.append(f"M{x:.1f} {y:.1f}h{across:.1f}v{up:.1f}h{-across:.1f}z")
        index += length
    return "".join(parts)


def _place(column: Mapping[str, float], state: str, width: float) -> tuple[float, float]:
    """Return the lower and upper edge of a state in its column, as shares of the column."""
    below = sum(column[each] for each in _STATES[: _STATES.index(state)])
    scale = max(width, sum(column.values()))
    return round(below / scale, 3), round((below + column[state]) / scale, 3)


def _build_ticks(seconds: float, scale: float) -> tuple[Tick, ...]:
    longest = _TICK_STEPS_SECONDS[-1]
    several = longest * math.ceil(seconds / (longest * _MAX_TICKS))  # of a run of more than ten days
    step = next((each for each in _TICK_STEPS_SECONDS if seconds / each <= _MAX_TICKS), several)
    marks = [index * step for index in range(int(seconds / step) + 1)]
    return tuple(Tick(position=round(_LEFT + mark * scale, 1), label=_label(mark)) for mark in marks)


def _label(seconds: float) -> str:
    whole = round(seconds)
    if whole % 60 or not whole:
        return f"{whole} s" if whole < 60 else f"{whole // 60}:{whole % 60:02}"
    return f"{whole // 60} min" if whole % 3600 else f"{whole // 3600} h"
