"""How fast a run was where nothing happened to it, from what it told while failures happened.

The rate of a machine drifts by more within an hour than what a failure costs, so a run is compared with itself.
"""

import dataclasses
from collections.abc import Sequence

AFTERMATH_SECONDS = 10.0
"""What follows a recovery is not undisturbed yet: its first steps may be slower."""


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """A step that a run told of, and when, in seconds of any clock."""

    at: float
    step: int


def find_rate(told: Sequence[Told], failures: Sequence[float]) -> float:
    """Return the steps a second outside of what failures disturbed.

    A failure disturbs from the last word before it until the run has told of a step that it had not reached then, and
    `AFTERMATH_SECONDS` more.

    Args:
        told: in the order of time, two at least.
        failures: when each happened, by the same clock.

    Raises:
        ValueError: nothing was undisturbed.
    """
    seconds, steps = told[-1].at - told[0].at, told[-1].step - told[0].step
    for begin, end in _disturbed(told, failures):
        seconds -= told[end].at - told[begin].at
        steps -= told[end].step - told[begin].step
    if seconds <= 0:
        raise ValueError(f"failures must leave some time undisturbed, got {len(failures)} of them.")
    return steps / seconds


def _disturbed(told: Sequence[Told], failures: Sequence[float]) -> list[tuple[int, int]]:
    """Return where each disturbed stretch begins and ends, as places in `told`; they do not overlap."""
    found: list[tuple[int, int]] = []
    for failure in sorted(failures):
        begin = max((place for place, each in enumerate(told) if each.at <= failure), default=0)
        reached = max(each.step for each in told[: begin + 1])
        regained = next((each.at for each in told[begin:] if each.step > reached), told[-1].at)
        end = next(
            (place for place, each in enumerate(told) if place > begin and each.at >= regained + AFTERMATH_SECONDS),
            len(told) - 1,
        )
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((begin, end))
    return found
