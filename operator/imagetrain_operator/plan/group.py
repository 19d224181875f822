"""The worker group of one attempt, as observed: what has become of its pods."""

import dataclasses
import datetime as dt

from imagetrain_operator import observed

# A pod that is still there when its grace period is over by this much is on a node that does not answer.
OVERDUE_SECONDS = 5.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The pods of one attempt.

    Attributes:
        workers: how many there should be.
        child: the Job that makes them.
        pods: those that exist.
    """

    workers: int
    child: observed.ChildJob
    pods: tuple[observed.Pod, ...]

    @property
    def chief(self) -> observed.Pod | None:
        """The pod of rank 0."""
        return next((pod for pod in self.pods if pod.rank == 0), None)

    def count_ready(self) -> int:
        """Return how many workers are ready or have done their work."""
        return sum(1 for pod in self.pods if pod.is_ready or pod.phase == "Succeeded")

    def has_succeeded(self) -> bool:
        """Tell whether the run is complete: every worker is, or the chief is and no other goes on."""
        if self.child.is_complete:
            return True
        chief = self.chief
        if chief is None or chief.phase != "Succeeded":
            return False
        # A chief that has published ends the run, even if another worker was lost afterwards.
        return all(pod.is_finished for pod in self.pods) and (
            self.child.is_failed or len({pod.rank for pod in self.pods}) == self.workers
        )

    def has_published(self) -> bool:
        """Tell whether the chief has done its work."""
        return self.chief is not None and self.chief.phase == "Succeeded"

    def is_ending(self, now: dt.datetime) -> bool:
        """Tell whether the attempt cannot go on: a pod failed or is lost, or the Job gave up."""
        return self.child.is_failed or any(pod.phase == "Failed" or is_lost(pod, now) for pod in self.pods)

    def has_lost_pods(self, now: dt.datetime) -> bool:
        """Tell whether a pod is lost, for which the Job controller would wait for ever."""
        return any(is_lost(pod, now) for pod in self.pods)

    def has_silent_node(self) -> bool:
        """Tell whether a node of the group does not answer."""
        return any(pod.is_node_lost for pod in self.pods)

    def unfinished(self, now: dt.datetime) -> tuple[observed.Pod, ...]:
        """Return the pods that may still do something."""
        return unfinished(self.pods, now)


def remember(pod: observed.Pod) -> observed.Pod | None:
    """Return what is kept of a deleted pod: how it ended, where it told that.

    The Job controller lets go of a pod as soon as it has ended, so its last state and its deletion come together.
    """
    if pod.exit_code is None:
        return dataclasses.replace(pod, is_gone=True) if pod.is_finished else None
    phase = "Failed" if pod.exit_code else "Succeeded"
    return dataclasses.replace(pod, phase=phase, is_ready=False, is_gone=True)


def current(seen: observed.Observation) -> Group | None:
    """Return the group of the newest attempt; None where its Job does not exist or goes away."""
    attempt = seen.job.status.attempt
    child = next((child for child in seen.child_jobs if child.attempt == attempt), None)
    if child is None or child.is_deleting or seen.job.job is None:
        return None
    pods = tuple(pod for pod in seen.pods if pod.attempt == attempt)
    return Group(workers=seen.job.job.spec.workers, child=child, pods=pods)


def unfinished(pods: tuple[observed.Pod, ...], now: dt.datetime) -> tuple[observed.Pod, ...]:
    """Return the pods that may still do something: neither finished nor on a node that does not answer."""
    return tuple(pod for pod in pods if not pod.is_finished and not pod.is_node_lost and not is_lost(pod, now))


def is_lost(pod: observed.Pod, now: dt.datetime) -> bool:
    """Tell whether a pod should have ended long ago, or is to be deleted and has nothing to save.

    Nothing is saved on a node that does not answer. The taint manager deletes pods there; one that never started is one
    that was still sent to the node after its death.
    """
    if pod.is_finished or pod.deletion_deadline is None:
        return False
    never_started = pod.phase == "Pending" and pod.disruption == "DeletionByTaintManager"
    return pod.is_node_lost or never_started or now > pod.deletion_deadline + dt.timedelta(seconds=OVERDUE_SECONDS)


def seconds_until_lost(pods: tuple[observed.Pod, ...], now: dt.datetime) -> float | None:
    """Return when the first of the pods that are being deleted counts as lost."""
    deadlines = [pod.deletion_deadline for pod in pods if pod.deletion_deadline is not None and not pod.is_finished]
    if not deadlines:
        return None
    return (min(deadlines) - now).total_seconds() + OVERDUE_SECONDS + 0.5
