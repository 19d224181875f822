"""The worker group of one attempt, as observed: what has become of its pods."""

import dataclasses
import datetime as dt

from imagetrain_api import job as api_job
from imagetrain_operator import observed
from imagetrain_operator.plan import causes, failures

# A pod that is still there when its grace period is over by this much is on a node that does not answer.
OVERDUE_SECONDS = 5.0
# Workers that the coordinator lets go end within 2 s; others of an elastic group would wait for a new rank 0.
_PEERS_SECONDS = 5.0
_CAUSE_SECONDS = 10.0  # an end that is older than the chief's by more has nothing to do with it


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The pods of one attempt.

    Attributes:
        workers: how many there should be.
        min_workers: fewest that go on without the others, rank 0 among them.
        child: the Job that makes them.
        pods: those that exist; of an elastic group the newest of each rank.
    """

    workers: int
    min_workers: int
    child: observed.ChildJob
    pods: tuple[observed.Pod, ...]

    @property
    def is_elastic(self) -> bool:
        """Tell whether it goes on without some of its workers."""
        return self.min_workers < self.workers

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
        if self.is_elastic:  # whoever is on its way, or was taken away, is no longer needed
            return not any(pod.is_ready and pod.deletion_deadline is None for pod in self.pods)
        # A chief that has published ends the run, even if another worker was lost afterwards.
        return all(pod.is_finished for pod in self.pods) and (
            self.child.is_failed or len({pod.rank for pod in self.pods}) == self.workers
        )

    def has_published(self) -> bool:
        """Tell whether the chief has done its work."""
        return self.chief is not None and self.chief.phase == "Succeeded"

    def is_ending(self, now: dt.datetime) -> bool:
        """Tell whether the attempt cannot go on: a pod that it needs failed or is lost, or the Job gave up.

        An elastic group needs its chief alone, for the Job controller replaces the others; but an error that would come
        again ends any group.
        """
        if self.child.is_failed or any(pod.phase == "Failed" or is_lost(pod, now) for pod in self._needed()):
            return True
        return self.is_elastic and any(failures.is_permanent(pod) for pod in self.pods)

    def _needed(self) -> tuple[observed.Pod, ...]:
        return tuple(pod for pod in self.pods if pod.rank == 0 or not self.is_elastic)

    def can_go_on(self) -> bool:
        """Tell whether the chief and enough others are ready."""
        chief = self.chief
        return chief is not None and (chief.is_ready or self.has_published()) and self.count_ready() >= self.min_workers

    def missing(self) -> tuple[int, ...]:
        """Return the ranks that are neither ready nor done."""
        there = {pod.rank for pod in self.pods if pod.is_ready or pod.phase == "Succeeded"}
        return tuple(rank for rank in range(self.workers) if rank not in there)

    def has_lost_pods(self, now: dt.datetime) -> bool:
        """Tell whether a pod is lost, for which the Job controller would wait for ever."""
        return any(is_lost(pod, now) for pod in self._needed())

    def seconds_to_leave(self, now: dt.datetime) -> float | None:
        """Return how long the others of an elastic group have to end after the chief; None where its Job ends them."""
        if not self.is_elastic or self.child.is_failed or self.child.is_deleting:
            return None
        chief = self.chief
        ended_at = chief.finished_at if chief is not None else None
        return 0.0 if ended_at is None else max(0.0, _PEERS_SECONDS - (now - ended_at).total_seconds())

    def explain_end(self) -> causes.Failure | None:
        """Return why the attempt ended; None where nobody is to blame."""
        if not self.is_elastic:
            return failures.explain_failure(self.pods, self.child, self.workers)
        chief = self.chief
        ended_at = chief.finished_at if chief is not None else None
        return failures.explain_failure([pod for pod in self.pods if _may_have_caused(pod, ended_at)], self.child, 0)

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
    spec = seen.job.job.spec
    needed = spec.recovery.min_workers or spec.workers
    return Group(
        workers=spec.workers, min_workers=needed, child=child, pods=_newest(pods) if is_elastic(spec) else pods
    )


def is_elastic(spec: api_job.JobSpec) -> bool:
    """Tell whether a job's group goes on without some of its workers (`spec.recovery.minWorkers`)."""
    return spec.recovery.min_workers is not None and spec.recovery.min_workers < spec.workers


def _newest(pods: tuple[observed.Pod, ...]) -> tuple[observed.Pod, ...]:
    """Return one pod of each rank: the newest, but of rank 0 one that failed, for that ends the attempt."""
    found: dict[int, observed.Pod] = {}
    for pod in sorted(pods, key=lambda pod: (pod.created_at, not pod.is_finished)):
        known = found.get(pod.rank)
        if known is None or pod.rank != 0 or known.phase != "Failed":
            found[pod.rank] = pod
    return tuple(found.values())


def _may_have_caused(pod: observed.Pod, chief_ended_at: dt.datetime | None) -> bool:
    if pod.rank == 0 or failures.is_permanent(pod):
        return True
    if chief_ended_at is None or pod.finished_at is None:
        return False
    return (chief_ended_at - pod.finished_at).total_seconds() <= _CAUSE_SECONDS


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


def unreachable_since(pod: observed.Pod, now: dt.datetime) -> dt.datetime | None:
    """Return since when the node of a pod does not answer, by what was made of the pod; None where it may answer."""
    if pod.disruption == causes.NODE_UNREACHABLE and not pod.is_gone:
        return dt.datetime.fromtimestamp(0, dt.UTC)  # long enough: it was called failed for that, and is still there
    if pod.is_finished:
        return None
    if pod.is_node_lost:
        return pod.node_lost_since or pod.deleted_at
    return pod.deleted_at if pod.disruption == "DeletionByTaintManager" and is_lost(pod, now) else None


def seconds_until_lost(pods: tuple[observed.Pod, ...], now: dt.datetime) -> float | None:
    """Return when the first of the pods that are being deleted counts as lost."""
    deadlines = [pod.deletion_deadline for pod in pods if pod.deletion_deadline is not None and not pod.is_finished]
    if not deadlines:
        return None
    return (min(deadlines) - now).total_seconds() + OVERDUE_SECONDS + 0.5
