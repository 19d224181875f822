"""An elastic group (`spec.recovery.minWorkers`) without some of its workers: what its status and events say.

Which workers train is the coordinator's decision (rank 0's supervisor), and the Job controller replaces the pods. The
operator sees that enough of them are there, and tells.
"""

import dataclasses

from imagetrain_api.status import ProgressStatus
from imagetrain_operator import observed
from imagetrain_operator.plan import causes, conditions, group, pod_ends, waiting
from imagetrain_operator.plan.draft import Draft

_NOT_TOLD_BY_PODS = ("StartingWorkers", "VolumeNotMounted", "QuotaExceeded", "PodsRefused")
_LOOK_SECONDS = 30.0  # into events, where neither Job nor pods tell why a worker does not come back


def describe_missing(draft: Draft, current: group.Group) -> str:
    """Say who is away and why; return why, or "" where all workers are there."""
    was_shrunk = _is_shrunk(draft)
    missing = current.missing() if current.is_elastic and not current.has_published() else ()
    if not missing:
        draft.set_condition("WorkersReady", conditions.TRUE, "WorkersReady", "All workers are ready.")
        return ""
    there = f"{current.workers - len(missing)} of {current.workers} workers are ready."
    cause = _explain(draft, current)
    message = f"{there} {cause}"
    draft.set_condition("WorkersReady", conditions.FALSE, conditions.SHRUNK, message)
    if not was_shrunk:
        seconds = draft.spec.recovery.elastic_timeout_seconds
        outlook = f"The group goes on without {'it' if len(missing) == 1 else 'them'} after {seconds} s."
        draft.announce("Warning", conditions.SHRUNK, f"{message} {outlook}")
    return cause


def describe_size(draft: Draft, shrunk: str, size: int) -> str:
    """Return in a sentence or more that the group trains, and why with fewer workers than it has."""
    workers = draft.spec.workers
    if not 0 < size < workers:
        return f"The group is training. {shrunk}".rstrip()
    rest = shrunk or "The others are taken in at the next checkpoint."
    return f"The group is training with {size} of {workers} workers. {rest}"


def announce_growth(draft: Draft, told: ProgressStatus) -> None:
    """Tell once that workers were taken in, as the coordinator's newest generation has them."""
    known = draft.status.progress
    if known is not None and known.workers and told.workers and told.workers > known.workers:
        message = f"The group trains with {told.workers} of {draft.spec.workers} workers after step {told.step}."
        draft.announce("Normal", "Grown", message)


def _is_shrunk(draft: Draft) -> bool:
    before = conditions.find(draft.status, "WorkersReady")
    return before is not None and before.reason == conditions.SHRUNK


def _explain(draft: Draft, current: group.Group) -> str:
    """Return why workers are away: what became of their pods, else what those wait for."""
    ended = [pod for pod in current.pods if not pod.is_ready and pod.phase != "Succeeded"]
    told = [failure.message for pod in ended if (failure := pod_ends.explain(pod)) is not None]
    if told:
        more = f" And {len(told) - 1} more." if len(told) > 1 else ""
        return causes.without_outlook(told[0]) + more
    cause = explain_waiting(draft.seen, current)
    if cause is None or cause.reason in _NOT_TOLD_BY_PODS:
        draft.investigate = True
        draft.look_again_in(_LOOK_SECONDS)
    return cause.message if cause is not None else "The others are away."


def explain_waiting(seen: observed.Observation, current: group.Group) -> waiting.Waiting | None:
    """Return what the workers wait for that are not there, whatever became of pods that are to be replaced."""
    if not current.is_elastic:
        return waiting.explain_waiting(seen)
    pods = tuple(pod for pod in current.pods if pod.phase != "Failed")
    return waiting.explain_waiting(dataclasses.replace(seen, pods=pods))
