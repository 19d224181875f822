"""What the operator keeps of each object of the cluster: small, typed, immutable. Parsing lies in `plan.parse`.

Nothing here decides anything or talks to the API server.
"""

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Any, NamedTuple

from imagetrain_api import job, names, progress, rules, status


class Key(NamedTuple):
    """Identity of a job in the queue and in the logs."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """One ImageTrainingJob.

    Attributes:
        key: namespace and name.
        uid: metadata.uid.
        generation: metadata.generation.
        resource_version: metadata.resourceVersion.
        is_deleting: whether metadata.deletionTimestamp is set.
        job: the decoded manifest; None where it is invalid.
        errors: the broken rules of an invalid manifest.
        status: the decoded status; an unreadable one counts as empty.
    """

    key: Key
    uid: str
    generation: int
    resource_version: str
    is_deleting: bool
    job: job.ImageTrainingJob | None
    errors: tuple[rules.FieldError, ...]
    status: status.JobStatus


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChildJob:
    """One Kubernetes Job: an attempt of a training job.

    Attributes:
        namespace, name, uid, resource_version: from metadata.
        owner_uid: uid of the ImageTrainingJob that controls it; "" where none does.
        job_name: value of `names.LABEL_JOB`.
        attempt: value of `names.LABEL_ATTEMPT`.
        created_at: metadata.creationTimestamp.
        is_deleting: whether metadata.deletionTimestamp is set.
        is_failed: whether the condition Failed or FailureTarget is True.
        is_complete: whether the condition Complete is True.
        message: message of that condition.
        started_at: when the Job controller first came to it; None before. Nothing is decided then, so it is no news
            of a Job.
    """

    namespace: str
    name: str
    uid: str
    resource_version: str
    owner_uid: str
    job_name: str
    attempt: int
    created_at: dt.datetime
    is_deleting: bool
    is_failed: bool
    is_complete: bool
    message: str
    started_at: dt.datetime | None = dataclasses.field(default=None, compare=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One worker pod.

    Attributes:
        namespace, name, uid, resource_version: from metadata.
        job_name: value of `names.LABEL_JOB`.
        run_id: value of `names.LABEL_RUN`.
        attempt: value of `names.LABEL_ATTEMPT`.
        rank: value of `names.LABEL_RANK`.
        created_at: metadata.creationTimestamp.
        phase: status.phase (Pending, Running, Succeeded, Failed, Unknown).
        node: spec.nodeName; "" while unscheduled.
        ip: status.podIP; "" while unknown.
        is_ready: the worker container runs and is ready, as far as its node tells.
        is_node_lost: the node of a running pod no longer answers (condition Ready is False though the container was
            ready, or reason NodeLost).
        node_lost_since: when the node was found not to answer; None where it answers.
        deletion_deadline: metadata.deletionTimestamp: when the grace period ends; None while nobody deletes it.
        deleted_at: when its deletion was asked for; None while nobody deletes it.
        unschedulable: message of condition PodScheduled=False with reason Unschedulable; "".
        waiting_reason, waiting_message: of a container (or init container) that waits, such as ImagePullBackOff; "".
        restarts: restarts of its containers (always 0 with restartPolicy Never).
        exit_code: of the terminated worker container; None while it runs or is unknown.
        exit_container: the container that the exit fields speak of: the worker, or another (such as an init container)
            that failed the pod where the worker never ended.
        exit_reason: the runtime's word: OOMKilled, Error, Completed, StartError, ContainerCannotRun; "".
        exit_message: the termination message (the worker's outcome document, or a runtime's text); "".
        finished_at: when the worker container terminated.
        pod_reason, pod_message: status.reason and status.message, such as Evicted, NodeLost, DeadlineExceeded; "".
        disruption: reason of condition DisruptionTarget=True (PreemptionByScheduler, DeletionByTaintManager,
            EvictionByEvictionAPI, DeletionByPodGC, TerminationByKubelet, or one of this operator's); "".
        disruption_message: message of that condition; "".
        is_gone: whether it has been deleted, and is kept for how it ended.
        placed_at: when it was given its node; None before.
    """

    namespace: str
    name: str
    uid: str
    resource_version: str
    job_name: str
    run_id: str
    attempt: int
    rank: int
    created_at: dt.datetime
    phase: str
    node: str
    ip: str
    is_ready: bool
    is_node_lost: bool
    deletion_deadline: dt.datetime | None
    deleted_at: dt.datetime | None
    unschedulable: str
    waiting_reason: str
    waiting_message: str
    restarts: int
    exit_code: int | None
    exit_reason: str
    exit_message: str
    finished_at: dt.datetime | None
    pod_reason: str
    pod_message: str
    disruption: str
    disruption_message: str = ""
    exit_container: str = names.CONTAINER
    is_gone: bool = False
    placed_at: dt.datetime | None = None
    node_lost_since: dt.datetime | None = None

    @property
    def is_finished(self) -> bool:
        """Whether it reached its end, well or not."""
        return self.phase in ("Succeeded", "Failed")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """The API server's or the Job controller's refusal to create something of a job.

    Attributes:
        message: the refusal, as it was given.
        is_final: whether only another manifest can help (such as a podTemplate that breaks a rule of pods).
    """

    message: str
    is_final: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NodeNotice:
    """Word that a node is about to be taken away.

    Attributes:
        node: its name.
        taint: key of the taint that says so; "" where the node is being deleted.
        since: when it was said, or first seen.
    """

    node: str
    taint: str
    since: dt.datetime

    @property
    def cause(self) -> str:
        """What says so."""
        return f"taint {self.taint}" if self.taint else "its deletion"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """All that one decision looks at.

    Attributes:
        job: the training job.
        child_jobs: its Jobs, of every attempt that still exists.
        pods: their pods.
        progress: the chief's newest report in the current attempt, if any came.
        denial: why pods or children of the current attempt could not be created, if so.
        mount_problem: why a volume of a waiting pod could not be mounted, if so.
        node_notices: of the pods' nodes, those that are about to be taken away, as far as that is watched for.
        silence: why nothing has been heard of the chief for long, if so: a few words.
    """

    job: TrainingJob
    child_jobs: tuple[ChildJob, ...]
    pods: tuple[Pod, ...]
    progress: progress.Progress | None
    denial: Denial | None
    mount_problem: str
    node_notices: tuple[NodeNotice, ...] = ()
    silence: str = ""


RawObject = Mapping[str, Any]  # an object as the API server sends it
