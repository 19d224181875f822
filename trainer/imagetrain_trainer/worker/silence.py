"""How long a training process was silent, on the supervisor's own clock.

The clock is an argument: `time.monotonic` of the supervisor. The times in the reports are of the wall clock, which may
jump; they only tell one report from the next. Nor does time count in which the supervisor itself stood still, with its
machine or by SIGSTOP: nobody was there to hear the training process then.
"""

import collections
import dataclasses
import statistics

from imagetrain_api import job, progress
from imagetrain_trainer.worker import process_state

STEP_FLOOR_SECONDS = 10.0  # no step counts as hung before
_STEP_FACTOR = 20  # times the median execution
START_FLOOR_SECONDS = 60.0  # no start counts as hung before: the next one may meet a busier machine
_START_FACTOR = 5  # times the longest start
_FEWEST_EXECUTIONS = 5  # before the run's own figures count
_KEPT_EXECUTIONS = 256
_MAX_TICK_SECONDS = 1.0  # a supervisor that observes less often was not running
_NO_PROCESSOR = 0.05  # less than this share of one core: nothing computes in the process


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Seconds without this or that sign of life.

    Attributes:
        report_seconds: since the newest report, or the start.
        start_seconds: since the start or, later, since something else than steps was done last.
        beat_seconds: since the newest beat; 0 before the first.
        stopped_seconds: for which the kernel has called the process stopped.
        is_idle: whether the process used next to no processor since the newest beat.
        has_stepped: whether the process has finished an execution of steps.
        has_evaluated: the same for a batch of an evaluation.
    """

    report_seconds: float = 0.0
    start_seconds: float = 0.0
    beat_seconds: float = 0.0
    stopped_seconds: float = 0.0
    is_idle: bool = False
    has_stepped: bool = False
    has_evaluated: bool = False


class RunTimes:
    """How long this run's starts and executions of steps take; the generations of one supervisor share it."""

    def __init__(self) -> None:
        self._steps: collections.deque[float] = collections.deque(maxlen=_KEPT_EXECUTIONS)
        self._longest_start = 0.0

    def add_step(self, seconds: float) -> None:
        """Count one execution."""
        self._steps.append(seconds)

    def add_start(self, seconds: float) -> None:
        """Count one start, up to its first step."""
        self._longest_start = max(self._longest_start, seconds)

    def step_limit_seconds(self, recovery: job.RecoverySettings) -> float:
        """Return how long an execution may take: 20 times the median, at least 10 s, at most what the job allows."""
        allowed = float(recovery.step_timeout_seconds)
        if len(self._steps) < _FEWEST_EXECUTIONS:
            return allowed
        return min(allowed, max(STEP_FLOOR_SECONDS, _STEP_FACTOR * statistics.median(self._steps)))

    def start_limit_seconds(self, recovery: job.RecoverySettings) -> float:
        """Return how long a start may take: five times the longest, at least 60 s, at most what the job allows."""
        allowed = float(recovery.start_timeout_seconds)
        if not self._longest_start:
            return allowed
        return min(allowed, max(START_FLOOR_SECONDS, _START_FACTOR * self._longest_start))


class SilenceMeter:
    """Follows one training process; `observe` it a few times a second."""

    def __init__(self, run_times: RunTimes, *, started_at: float) -> None:
        """Begin.

        Args:
            run_times: given every start and execution that is seen to end.
            started_at: when the process was started, on the clock of `observe`.
        """
        self._run_times = run_times
        self._seen_at = started_at
        self._now = 0.0  # seconds that count since the start
        self._reported_at = self._began_at = 0.0
        self._beat_at: float | None = None
        self._stopped_at: float | None = None
        self._cpu_at_beat = 0.0
        self._report = progress.Progress()
        self._has_stepped = self._has_evaluated = False

    def observe(self, report: progress.Progress, process: process_state.ProcessState | None, now: float) -> Silence:
        """Take in the newest report and the kernel's word, and say how silent the process is."""
        self._now += min(max(0.0, now - self._seen_at), _MAX_TICK_SECONDS)
        self._seen_at = now
        if _sign(report) != _sign(self._report):
            self._take(report)
        if report.beat_at != self._report.beat_at:
            self._beat_at, self._cpu_at_beat = self._now, process.cpu_seconds if process else 0.0
        self._report = report
        is_stopped = process is not None and process.state == process_state.STOPPED
        self._stopped_at = (self._now if self._stopped_at is None else self._stopped_at) if is_stopped else None
        return self._measure(process)

    def _take(self, report: progress.Progress) -> None:
        before, self._report, since = self._report, report, self._reported_at
        self._reported_at = self._now
        is_same_phase = before.phase == report.phase and before.updated_at > 0
        if report.phase == "training" and is_same_phase and report.step > before.step:
            if self._has_stepped:
                self._run_times.add_step(self._now - since)
            else:  # its time is the compiler's
                self._run_times.add_start(self._now - self._began_at)
            self._has_stepped = True
        if report.phase == "evaluating" and is_same_phase and report.updated_at > before.updated_at:
            self._has_evaluated = True
        if report.phase not in ("starting", "training"):
            self._began_at = self._now

    def _measure(self, process: process_state.ProcessState | None) -> Silence:
        beat_seconds = 0.0 if self._beat_at is None else self._now - self._beat_at
        used = process.cpu_seconds - self._cpu_at_beat if process else 0.0
        return Silence(
            report_seconds=self._now - self._reported_at,
            start_seconds=self._now - self._began_at,
            beat_seconds=beat_seconds,
            stopped_seconds=0.0 if self._stopped_at is None else self._now - self._stopped_at,
            is_idle=used < _NO_PROCESSOR * beat_seconds,
            has_stepped=self._has_stepped,
            has_evaluated=self._has_evaluated,
        )


def _sign(report: progress.Progress) -> tuple[object, ...]:
    """Return what changes with every report, but not with marks that show no progress."""
    return report.updated_at, report.phase, report.step, report.entered_step
