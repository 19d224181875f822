"""What the chief's time has gone to since its supervisor started, over all its training processes. Pure.

A report speaks of one process, and a recovery of the gap between two. Both are added up here, and what is left of the
wall time was training. Figures never fall: one that would, because something is found to have been lost after all,
waits until it is right again.
"""

import collections
from collections.abc import Mapping

from imagetrain_api import progress, recoveries

_STATE_OF_PHASE = {
    "starting": "starting",
    "evaluating": "evaluation",
    "checkpointing": "checkpoint",
    "publishing": "publishing",
}
_STALL = "input_stall"


class GoodputLedger:
    """Adds up the reports of one supervisor's training processes."""

    def __init__(self, started_at: float) -> None:
        """Begin at a time of the monotonic clock."""
        self._started_at = started_at
        self._before: dict[str, float] = collections.defaultdict(float)  # of the processes before this one
        self._process: dict[str, float] = {}
        self._has_restarted = False
        self._lost: dict[int, float] = {}  # by generation
        self._loses_the_start = False  # a recovery's time began with the run's
        self._restarts: collections.Counter[str] = collections.Counter()
        self._shown = dict.fromkeys(progress.TIME_STATES, 0.0)

    def observe(self, report: progress.Progress, *, now: float, unix: float) -> Mapping[str, float]:
        """Take a report in and return the seconds of each state.

        Args:
            report: the chief's newest, with the recoveries.
            now: time of the monotonic clock.
            unix: Unix time.
        """
        self._note_recoveries(report.recoveries)
        wall = max(0.0, now - self._started_at)
        spent = {**self._add_up(report, wall, unix), "recovery": sum(self._lost.values())}
        if self._loses_the_start:
            spent["recovery"] = max(0.0, spent["recovery"] - spent["starting"])
        spent["training"] = wall - sum(spent.values())
        self._shown = {state: max(seconds, spent.get(state, 0.0)) for state, seconds in self._shown.items()}
        return self._shown

    @property
    def restarts(self) -> Mapping[str, int]:
        """Recoveries by reason."""
        return self._restarts

    def _note_recoveries(self, told: tuple[progress.Recovery, ...]) -> None:
        for each in told:
            if each.generation not in self._lost:
                self._restarts[each.reason] += 1
            self._lost[each.generation] = each.lost_seconds
            self._loses_the_start |= each.step == 0

    def _add_up(self, report: progress.Progress, wall: float, unix: float) -> dict[str, float]:
        process = _spent_by(report)
        if any(process.get(state, 0.0) < seconds for state, seconds in self._process.items()):
            for state, seconds in self._process.items():
                if state != "starting" or not self._has_restarted:  # to start again is part of a recovery
                    self._before[state] += seconds
            self._has_restarted = True
        self._process = dict(process)
        current = _STATE_OF_PHASE.get(report.phase)
        if current is not None and recoveries.running(report.recoveries) is None:
            unaccounted = wall - sum(self._before.values()) - sum(report.seconds_by_phase.values())
            process[current] += min(max(0.0, unix - report.updated_at), max(0.0, unaccounted))
        total = {state: self._before[state] + seconds for state, seconds in process.items()}
        if self._has_restarted:
            total["starting"] = self._before["starting"]
        return total


def _spent_by(report: progress.Progress) -> dict[str, float]:
    spent = {state: report.seconds_by_phase.get(phase, 0.0) for phase, state in _STATE_OF_PHASE.items()}
    return {**spent, _STALL: report.input_stall_seconds}
