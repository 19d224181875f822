"""Why an attempt ended: which worker is to blame, and for what."""

import dataclasses
import math
from collections.abc import Sequence

from imagetrain_operator import observed
from imagetrain_operator.plan import pod_ends
from imagetrain_operator.plan.causes import OUTLOOK, Failure


@dataclasses.dataclass(frozen=True, slots=True)
class _Suspect:
    failure: Failure
    is_deleted: bool
    ended_at: float
    is_kept: bool = False

    @property
    def guilt(self) -> tuple[int, float, bool, bool]:
        """Order of suspects, most telling first.

        A permanent error counts before a passing one. Then come ends that another worker's end may have caused: a hang,
        for all ranks stand still when one does; at last a worker that missed its peer or was deleted, which the Job
        controller does to the others once one has failed. Among equals the first counts; times are whole seconds, and
        where they are the same, a pod whose log can still be read.
        """
        reason = self.failure.reason
        if reason in ("PeerLost", "PodDeleted", "Preempted"):
            weight = 3
        elif reason == "Hung":
            weight = 2
        else:
            weight = 0 if self.failure.is_permanent else 1
        return weight, self.ended_at, not self.is_deleted, not self.is_kept


def explain_failure(pods: Sequence[observed.Pod], child: observed.ChildJob | None, workers: int) -> Failure | None:
    """Return why an attempt ended, or None where nothing of it has failed.

    Args:
        pods: the pods of the attempt that exist.
        child: its Job, if that exists.
        workers: how many pods there should be.
    """
    suspects = [suspect for pod in pods if (suspect := _suspect(pod)) is not None]
    if not suspects and child is not None and not child.is_failed and not child.is_deleting:
        return None
    if missing := sorted(set(range(workers)) - {pod.rank for pod in pods}):
        suspects.append(_Suspect(_explain_missing(missing, workers), is_deleted=True, ended_at=-math.inf))
    if any(suspect.is_deleted for suspect in suspects):
        # A group agrees to stop when one of its workers is asked to: the others were not asked themselves.
        suspects = [suspect for suspect in suspects if suspect.failure.reason != "Preempted"]
    if suspects:
        return min(suspects, key=lambda suspect: suspect.guilt).failure
    if child is None or not child.is_failed:
        return None
    return Failure(
        reason="AttemptFailed",
        message=" ".join(filter(None, (f"The Kubernetes Job {child.name} failed.", pod_ends.quote(child.message)))),
        rank=None,
    )


def is_permanent(pod: observed.Pod) -> bool:
    """Tell whether a pod ended with what no further attempt can help."""
    found = pod_ends.explain(pod)
    return found is not None and found.is_permanent


def _suspect(pod: observed.Pod) -> _Suspect | None:
    found = pod_ends.explain(pod)
    if found is None:
        return None
    began = pod.deleted_at if found.reason == "PodDeleted" else pod.finished_at
    ended_at = began.timestamp() if began else math.inf
    is_kept = pod.deletion_deadline is None and not pod.is_gone
    return _Suspect(found, is_deleted=found.reason == "PodDeleted", ended_at=ended_at, is_kept=is_kept)


def _explain_missing(ranks: Sequence[int], workers: int) -> Failure:
    if len(ranks) == workers:
        who = "The pods of all workers were" if workers > 1 else "The pod of the worker was"
    else:
        who = f"The pod of worker {ranks[0]} was" if len(ranks) == 1 else f"The pods of workers {_list(ranks)} were"
    return Failure(
        reason="PodDeleted",
        message=f"{who} deleted from the cluster. {OUTLOOK}",
        rank=ranks[0] if len(ranks) == 1 else None,
        is_disruption=True,
    )


def _list(ranks: Sequence[int]) -> str:
    shown = ", ".join(map(str, ranks[:8]))
    return shown if len(ranks) <= 8 else f"{shown} and {len(ranks) - 8} more"
