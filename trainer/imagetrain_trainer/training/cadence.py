"""When the next checkpoint is due. Pure: clocks and measurements are arguments.

`auto` is the interval of Young (1974) as Daly refined it (2006, "A higher order estimate of the optimum checkpoint
interval for restart dumps"): it balances the time that saves cost against the steps that a failure throws away.
"""

import math

from imagetrain_api import job

PRIOR_FAILURES = 1.0  # as if one failure had been seen within
PRIOR_SECONDS = 86400.0  # one day, before the run began
LEAST_SECONDS = 5.0  # listing, fencing and collecting garbage cost a handful of requests a save
MOST_SECONDS = 3600.0
LEAST_COPY_SECONDS = 1.0
_COPIED_BYTES_PER_SECOND = 1e9  # until a copy was measured
_COPY_SHARE = 0.005  # of the time that goes to local copies at most
_FIRST_STALL_SECONDS = 0.1  # until one was measured


def estimate_failure_interval(failures: int, seconds: float) -> float:
    """Return the mean seconds between failures: the posterior mean of a rate with a prior of one a day.

    Args:
        failures: seen so far.
        seconds: of running so far.
    """
    return (PRIOR_SECONDS + seconds) / (PRIOR_FAILURES + failures)


def optimal_interval(save_seconds: float, failure_interval_seconds: float) -> float:
    """Return Daly's interval between the end of a save and the begin of the next.

    Args:
        save_seconds: how long a save holds training up.
        failure_interval_seconds: mean time between failures.
    """
    if save_seconds >= 2 * failure_interval_seconds:
        return failure_interval_seconds
    ratio = save_seconds / (2 * failure_interval_seconds)
    young = math.sqrt(2 * save_seconds * failure_interval_seconds)
    return young * (1 + math.sqrt(ratio) / 3 + ratio / 9) - save_seconds


def choose_interval(
    settings: job.CheckpointSettings, *, stall_seconds: float | None, failures: int, seconds: float
) -> float:
    """Return the seconds between two checkpoints, for a cadence by time.

    Args:
        settings: the job's.
        stall_seconds: mean time that a save held training up; None before the first.
        failures: restarts of the group so far.
        seconds: of running so far.
    """
    if not settings.auto:
        return float(settings.every_seconds)
    stall = _FIRST_STALL_SECONDS if stall_seconds is None else stall_seconds
    found = optimal_interval(stall, estimate_failure_interval(failures, seconds))
    return min(MOST_SECONDS, max(LEAST_SECONDS, found))


def copy_interval(copy_seconds: float | None, state_bytes: int) -> float:
    """Return the seconds from a copy on the workers' own disks to the next: often, as long as it costs next to nothing.

    Args:
        copy_seconds: how long the newest held training up; None before the first.
        state_bytes: size of the state.
    """
    seconds = state_bytes / _COPIED_BYTES_PER_SECOND if copy_seconds is None else copy_seconds
    return max(LEAST_COPY_SECONDS, seconds / _COPY_SHARE)


def steps_to_save(settings: job.CheckpointSettings, step: int) -> int | None:
    """Return the steps from `step` to the next multiple of `everySteps`, at least 1; None for a cadence by time."""
    if settings.every_steps is None:
        return None
    return settings.every_steps - step % settings.every_steps
