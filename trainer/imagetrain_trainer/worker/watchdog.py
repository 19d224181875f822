"""Decides from a training process's reports, its beats and the kernel's word whether it hangs. Pure."""

import dataclasses

from imagetrain_api import job, progress
from imagetrain_trainer.worker import process_state, silence

_BEAT_LIMIT_SECONDS = 5.0  # ten beats (training/reporter.py)
_STOPPED_LIMIT_SECONDS = 2.0  # a debugger or a snapshot of the machine is gone by then
_ENTERING = ("starting", "training")
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
        self, recovery: job.RecoverySettings, step_times: silence.StepTimes | None = None, *, started_at: float
    ) -> None:
        """Begin.

        Args:
            recovery: the job's limits.
            step_times: those of the generations before, so that the step deadline is known at once.
            started_at: when the process was started, on the clock of `observe`.
        """
        self._recovery = recovery
        self._step_times = step_times or silence.StepTimes()
        self._meter = silence.SilenceMeter(self._step_times, started_at=started_at)
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
        step_limit = self._step_times.limit_seconds(self._recovery)
        return find_hang(report, self._recovery, silent=self._silence, process=process, step_limit_seconds=step_limit)


def find_hang(
    report: progress.Progress,
    recovery: job.RecoverySettings,
    *,
    silent: silence.Silence,
    process: process_state.ProcessState | None,
    step_limit_seconds: float,
) -> Verdict | None:
    """Tell whether a training process stands still, or was silent for longer than its phase allows.

    A process whose heart does not beat but that computes may be in a long native call that keeps the interpreter's
    lock; it has its phase's time. Steps that wait for input have the time that the job allows, for the storage may come
    back; others have the run's own, `step_limit_seconds`. What compiles first has the start's time, and so have
    checkpoints and publishing, which do work of unknown length in one go.
    """
    # TensorFlow joins the group in a native call that keeps the interpreter's lock until every peer is there.
    is_joining = report.phase == "starting" and report.waiting_for == "peers"
    if (freeze := _explain_freeze(silent, process, has_heart=not is_joining)) is not None:
        return Verdict(suspect="frozen", message=f"Rank {report.rank} {freeze}.")
    if report.phase in _ENTERING and not silent.has_stepped:
        return _judge(report, "start", silent.start_seconds, recovery.start_timeout_seconds, "startTimeoutSeconds")
    if report.phase == "training":
        allowed, own = recovery.step_timeout_seconds, step_limit_seconds
        if own >= allowed or report.waiting_for in ("input", "storage"):
            return _judge(report, "step", silent.report_seconds, allowed, "stepTimeoutSeconds")
        return _judge(report, "step", silent.report_seconds, own, "")
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


def _judge(report: progress.Progress, suspect: str, seconds: float, limit: float, setting: str) -> Verdict | None:
    if seconds <= limit:
        return None
    detail = f" ({report.detail})" if report.detail else ""
    what = f"took {seconds:.0f} s to start" if suspect == "start" else f"reported nothing for {seconds:.0f} s"
    wait = f" and waiting for {report.waiting_for}" if report.waiting_for else ""
    rule = f"recovery.{setting} allows {limit:.0f} s" if setting else f"this run's own steps allow {limit:.0f} s"
    return Verdict(suspect=suspect, message=f"Rank {report.rank} {what} while {report.phase}{detail}{wait} ({rule}).")
