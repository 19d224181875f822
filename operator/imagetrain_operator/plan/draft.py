"""A plan in the making: the status as it will be, and the effects that go with it."""

import dataclasses
import datetime as dt
from typing import Any

from imagetrain_api import job as api_job
from imagetrain_api import schema
from imagetrain_api.status import JobStatus
from imagetrain_operator import observed
from imagetrain_operator.plan import conditions


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PlannedEvent:
    """An event to post once the status is written: `kind` is Normal or Warning."""

    kind: str
    reason: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PodDeletion:
    """A pod to delete by itself, and not with its Job.

    Attributes:
        pod: the pod.
        reason, why: what its condition DisruptionTarget is to say before it is deleted.
        by_force: whether to call it failed and delete it at once, for its node cannot say that it has ended; else it
            has its grace period.
        event: what to announce once it is deleted.
    """

    pod: observed.Pod
    reason: str
    why: str
    by_force: bool
    event: PlannedEvent


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done for one job.

    Attributes:
        status: what the status is to say.
        delete_children: Jobs to delete with their pods.
        delete_pods: pods to delete by themselves.
        start_attempt: number of the attempt whose Service and Job are to be created; None: none.
        delete_job: whether the ImageTrainingJob itself is to be deleted.
        events: what to announce after the status is written.
        chief_ip: address of the chief to ask for its progress; "": nobody is to be asked.
        investigate: whether the reason why pods are missing or not starting is to be looked for in events.
        requeue_after_seconds: when to look again though nothing happened; None: never.
    """

    status: JobStatus
    delete_children: tuple[observed.ChildJob, ...]
    start_attempt: int | None
    delete_job: bool
    delete_pods: tuple[PodDeletion, ...]
    events: tuple[PlannedEvent, ...]
    chief_ip: str
    investigate: bool
    requeue_after_seconds: float | None


class Draft:
    """Collects a plan. Its methods change the status and the effects, and decide nothing."""

    def __init__(self, seen: observed.Observation, now: dt.datetime) -> None:
        self.seen = seen
        self.now = now
        self.status = seen.job.status
        self.change(observed_generation=seen.job.generation)
        self.start_attempt: int | None = None
        self.delete_job = False
        self.chief_ip = ""
        self.investigate = False
        self.delete_pods: list[PodDeletion] = []
        self._delete: dict[str, observed.ChildJob] = {}
        self._events: list[PlannedEvent] = []
        self._requeue: float | None = None

    @property
    def spec(self) -> api_job.JobSpec:
        """The spec of a valid job."""
        assert self.seen.job.job is not None
        return self.seen.job.job.spec

    def change(self, **fields: Any) -> None:  # noqa: ANN401  # values of any field of the status
        """Set fields of the status."""
        if any(getattr(self.status, name) != value for name, value in fields.items()):
            self.status = schema.replace(self.status, **fields)

    def set_condition(self, kind: str, answer: str, reason: str, message: str = "") -> None:
        """Set one condition."""
        generation = self.seen.job.generation
        self.status = conditions.with_condition(self.status, kind, answer, reason, message, generation, self.now)

    def set_state(self, phase: str, reason: str, message: str) -> None:
        """Set what the columns show."""
        self.change(phase=phase, reason=reason, message=conditions.cut(message))

    def set_ready(self, ready: int, workers: int) -> None:
        """Set the count of ready workers."""
        self.change(ready=f"{ready}/{workers}")

    def accept(self) -> None:
        """Say that the manifest is valid."""
        self.set_condition("Accepted", conditions.TRUE, "ValidSpec", "The manifest is valid.")

    def announce(self, kind: str, reason: str, message: str) -> None:
        """Post an event."""
        self._events.append(PlannedEvent(kind=kind, reason=reason, message=message))

    def announce_state(self, kind: str) -> None:
        """Post an event with the state's reason, if that is new."""
        before = self.seen.job.status
        if (self.status.phase, self.status.reason) != (before.phase, before.reason):
            self.announce(kind, self.status.reason, self.status.message)

    def delete(self, child: observed.ChildJob) -> None:
        """Delete a Job with its pods, unless that is under way."""
        if not child.is_deleting:
            self._delete[child.name] = child

    def look_again_in(self, seconds: float) -> None:
        """Look again after a time; the shortest of several holds."""
        wait = max(seconds, 0.1)
        self._requeue = wait if self._requeue is None else min(self._requeue, wait)

    def plan(self) -> Plan:
        """Return the finished plan."""
        return Plan(
            status=self.status,
            delete_children=tuple(self._delete.values()),
            start_attempt=self.start_attempt,
            delete_job=self.delete_job,
            delete_pods=tuple(self.delete_pods),
            events=tuple(self._events),
            chief_ip=self.chief_ip,
            investigate=self.investigate,
            requeue_after_seconds=self._requeue,
        )
