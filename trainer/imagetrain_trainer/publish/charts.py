"""Line charts as plain numbers: the report's template draws them as SVG. Pure; nothing here knows HTML."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from imagetrain_trainer.publish import figures

WIDTH, HEIGHT = 400, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 14, 14, 28
_MAX_Y_TICKS = 5
_MAX_X_TICKS = 8
_MAX_DOTS = 60  # beyond this many epochs dots would hide their own line


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One value of a series; `label` is what hovering shows."""

    x: float
    y: float
    label: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One series: `points` is an SVG points list."""

    name: str
    style: str
    points: str
    dots: tuple[Dot, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A mark on an axis."""

    position: float
    label: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart in a coordinate system of WIDTH by HEIGHT, y downwards."""

    title: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    left: float = _LEFT
    right: float = WIDTH - _RIGHT
    top: float = _TOP
    bottom: float = HEIGHT - _BOTTOM
    width: float = WIDTH
    height: float = HEIGHT


def build_chart(title: str, epochs: Sequence[Mapping[str, Any]], series: Mapping[str, tuple[str, str]]) -> Chart | None:
    """Draw figures of a history over its epochs.

    Args:
        title: heading.
        epochs: one mapping an epoch, with `epoch` (counted from 0 or 1) and the figures.
        series: key of a figure -> (name, style) of its line.

    Returns:
        None when no epoch has any of the figures.
    """
    values = {key: [(each["epoch"], each[key]) for each in epochs if _is_finite(each.get(key))] for key in series}
    every = [value for pairs in values.values() for _, value in pairs]
    numbers = [number for pairs in values.values() for number, _ in pairs]
    if not every:
        return None
    y_marks = nice_ticks(min(every), max(every), _MAX_Y_TICKS)
    low, high = y_marks[0], y_marks[-1]
    first, last = min(numbers), max(numbers)

    def place(number: float, value: float) -> tuple[float, float]:
        across = (number - first) / (last - first) if last > first else 0.5
        up = (value - low) / (high - low)
        return (
            round(_LEFT + across * (WIDTH - _LEFT - _RIGHT), 1),
            round(HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM), 1),
        )

    return Chart(
        title=title,
        lines=tuple(_draw_line(*series[key], pairs, place) for key, pairs in values.items() if pairs),
        x_ticks=tuple(
            Tick(position=place(number, low)[0], label=str(number)) for number in whole_ticks(first, last, _MAX_X_TICKS)
        ),
        y_ticks=tuple(Tick(position=place(first, mark)[1], label=_label(mark)) for mark in y_marks),
    )


def _draw_line(
    name: str,
    style: str,
    pairs: Sequence[tuple[int, float]],
    place: Callable[[int, float], tuple[float, float]],
) -> Line:
    dots = tuple(
        Dot(x=place(*pair)[0], y=place(*pair)[1], label=f"epoch {pair[0]}: {name} {figures.format_digits(pair[1], 4)}")
        for pair in pairs
    )
    points = " ".join(f"{dot.x},{dot.y}" for dot in dots)
    return Line(name=name, style=style, points=points, dots=dots if len(dots) <= _MAX_DOTS else ())


def nice_ticks(low: float, high: float, most: int) -> list[float]:
    """Return round numbers that enclose [low, high], at most `most` + 1 of them and at least two."""
    if high - low < 1e-12 * max(1.0, abs(high)):
        margin = abs(high) * 0.1 or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    start, end = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(start, max(end, start + 1) + 1)]


def whole_ticks(first: int, last: int, most: int) -> list[int]:
    """Return at most `most` whole numbers from `first` on, evenly spaced."""
    step = max(1, math.ceil((last - first + 1) / most))
    return list(range(first, last + 1, step))


def _label(value: float) -> str:
    return figures.strip_zeros(figures.format_digits(value, 3))


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
