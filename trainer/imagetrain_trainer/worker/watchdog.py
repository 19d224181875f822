"""Decides from a training process's reports, its beats and the kernel's word whether it hangs. Pure."""

import dataclasses

from imagetrain_api import job, progress
from imagetrain_trainer.worker import process_state, silence

_BEAT_LIMIT_SECONDS = 5.0  # ten beats (training/reporter.py)
_STOPPED_LIMIT_SECONDS = 2.0  # a debugger or a snapshot of the machine is gone by then
_ENTERING = ("starting", "training")
_WAITING = ("input", "storage", "peers")
_SUSPICIONS = {"evaluating": "evaluation", "checkpointing": "checkpoint"}  # the rest of the phases: export


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A hang.

    Attributes:
        message: one line for the user that names the rank, without the step.
        suspect: frozen, or which deadline was passed: start, step, checkpoint, evaluation, export.
    """

    message: str
    suspect: str = "step"


class Watch:
    """Watches one training process: `observe` a few times a second, on any monotonic clock."""

    def __init__(
        self, recovery: job.RecoverySettings, run_times: silence.RunTimes | None = None, *, started_at: float
    ) -> None:
        """Begin.

        Args:
            recovery: the job's limits.
            run_times: those of the generations before, so that the deadlines are known at once.
            started_at: when the process was started, on the clock of `observe`.
        """
        self._recovery = recovery
        self._run_times = run_times or silence.RunTimes()
        self._meter = silence.SilenceMeter(self._run_times, started_at=started_at)
        self._silence = silence.Silence()

    @property
    def silent_seconds(self) -> float:
        """Seconds since the newest beat, for `MemberReport.silent_seconds`; 0 before the first."""
        return self._silence.beat_seconds

    def observe(
        self, report: progress.Progress, process: process_state.ProcessState | None, now: float
    ) -> Verdict | None:
        """Tell whether the process hangs.

        Args:
            report: the newest.
            process: the kernel's word; None when there is no process.
            now: the clock.
        """
        self._silence = self._meter.observe(report, process, now)
        return find_hang(
            report,
            self._recovery,
            silent=self._silence,
            process=process,
            step_limit_seconds=self._run_times.step_limit_seconds(self._recovery),
            start_limit_seconds=self._run_times.start_limit_seconds(self._recovery),
        )


def find_hang(
    report: progress.Progress,
    recovery: job.RecoverySettings,
    *,
    silent: silence.Silence,
    process: process_state.ProcessState | None,
    step_limit_seconds: float,
    start_limit_seconds: float,
) -> Verdict | None:
    """Tell whether a training process stands still, or was silent for longer than its phase allows.

    A process whose heart does not beat but that computes may be in a long native call that keeps the interpreter's
    lock; it has its phase's time. A start and its steps have the run's own time, `start_limit_seconds` and
    `step_limit_seconds`; or what the job allows while they wait for storage, which may come back, and while a start
    waits for its peers, each of which is watched where it runs. Checkpoints and publishing do work of unknown length in
    one go: they have the time that the job allows a start.
    """
    # TensorFlow joins the group in a native call that keeps the interpreter's lock until every peer is there.
    is_joining = report.phase == "starting" and report.waiting_for == "peers"
    if (freeze := _explain_freeze(silent, process, has_heart=not is_joining)) is not None:
        return Verdict(suspect="frozen", message=f"Rank {report.rank} {freeze}.")
    if report.phase in _ENTERING and not silent.has_stepped:
        limits = start_limit_seconds, recovery.start_timeout_seconds
        return _judge_shorter(report, "start", silent.start_seconds, limits, "startTimeoutSeconds")
    if report.phase == "training":
        limits = step_limit_seconds, recovery.step_timeout_seconds
        return _judge_shorter(report, "step", silent.report_seconds, limits, "stepTimeoutSeconds")
    if report.phase == "evaluating" and silent.has_evaluated:
        limit = recovery.step_timeout_seconds
        return _judge(report, "evaluation", silent.report_seconds, limit, "stepTimeoutSeconds")
    suspect = _SUSPICIONS.get(report.phase, "export")
    return _judge(report, suspect, silent.report_seconds, recovery.start_timeout_seconds, "startTimeoutSeconds")


def _explain_freeze(
    silent: silence.Silence, process: process_state.ProcessState | None, *, has_heart: bool
) -> str | None:
    if silent.stopped_seconds >= _STOPPED_LIMIT_SECONDS:
        return "stood still, stopped by a signal such as SIGSTOP"
    if not has_heart or silent.beat_seconds <= _BEAT_LIMIT_SECONDS or not silent.is_idle:
        return None
    seconds = f"for {silent.beat_seconds:.0f} s"
    if process is not None and process.state == "D":
        return f"stood still {seconds}, in a call of the kernel that cannot be interrupted (a disk or a network mount?)"
    return f"stood still {seconds}, for a native call keeps the interpreter's lock and uses no processor"


def _judge_shorter(
    report: progress.Progress, suspect: str, seconds: float, limits: tuple[float, float], setting: str
) -> Verdict | None:
    """Judge by the run's own limit or, while others are waited for, by the job's."""
    own, allowed = limits
    if own >= allowed or report.waiting_for in _WAITING:
        return _judge(report, suspect, seconds, allowed, setting)
    return _judge(report, suspect, seconds, own, "")


def _judge(report: progress.Progress, suspect: str, seconds: float, limit: float, setting: str) -> Verdict | None:
    if seconds <= limit:
        return None
    detail = f" ({report.detail})" if report.detail else ""
    what = f"took {seconds:.0f} s to start" if suspect == "start" else f"reported nothing for {seconds:.0f} s"
    wait = f" and waiting for {report.waiting_for}" if report.waiting_for else ""
    own = "starts" if suspect == "start" else "steps"
    rule = f"recovery.{setting} allows {limit:.0f} s" if setting else f"this run's own {own} allow {limit:.0f} s"
    return Verdict(suspect=suspect, message=f"Rank {report.rank} {what} while {report.phase}{detail}{wait} ({rule}).")
