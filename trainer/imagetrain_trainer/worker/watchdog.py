"""Decides from the training process's reports whether it hangs. Pure: the clock is an argument."""

import dataclasses

from imagetrain_api import job, progress


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A hang: which limit was passed, in words for the user."""

    message: str


def find_hang(
    report: progress.Progress, recovery: job.RecoverySettings, *, started_at: float, now: float
) -> Verdict | None:
    """Tell whether the training process was silent for longer than its phase allows.

    Steps and evaluation batches report each time they finish. Start-up, checkpoints and publishing do work of unknown
    length in one go, so they have the start timeout.

    Args:
        report: the newest report; its `updated_at` is 0 before the first.
        recovery: the job's limits.
        started_at: Unix time at which the training process was started.
        now: Unix time.
    """
    is_stepping = report.phase in ("training", "evaluating")
    limit = recovery.step_timeout_seconds if is_stepping else recovery.start_timeout_seconds
    silent_seconds = now - max(report.updated_at, started_at)
    if silent_seconds <= limit:
        return None
    setting = "recovery.stepTimeoutSeconds" if is_stepping else "recovery.startTimeoutSeconds"
    return Verdict(
        message=f"Rank {report.rank} reported nothing for {silent_seconds:.0f} s while {report.phase}"
        f"{f' ({report.detail})' if report.detail else ''} at step {report.step}; {setting} allows {limit} s."
    )
