"""Why an attempt ended: which worker is to blame, in a word, in a sentence, and whether another attempt can help."""

import dataclasses
import json
import math
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from imagetrain_api import exit_codes, names, progress, schema
from imagetrain_api.exit_codes import ExitCode
from imagetrain_operator import observed
from imagetrain_operator.plan import foreign_text

_MAX_FOREIGN_CHARACTERS = 480  # leaves room for the sentences around it (status.MAX_MESSAGE_CHARACTERS)
_MAX_TAIL_CHARACTERS = 300
_KILLED = 128 + signal.SIGKILL
_TERMINATED = 128 + signal.SIGTERM

# What the trainer's storage says of these names the remedy, and more exactly than the table of codes can.
_TOLD_WITH_ADVICE = frozenset({ExitCode.STORAGE_UNAVAILABLE, ExitCode.ACCESS_DENIED, ExitCode.NOT_FOUND})

# What a runtime says where the image cannot run at all, so that no further attempt can help.
_UNFIT_IMAGE = ("executable file not found", "no such file or directory", "permission denied", "exec format error")


# What most reasons end with, as those of `imagetrain_api.exit_codes` do.
_OUTLOOK = "The group resumes from its newest checkpoint."

# Conditions of pods whose node went away; the last is set by this operator (spec.recovery.forceDeleteAfterSeconds).
NODE_UNREACHABLE = "NodeUnreachable"
# Condition that this operator sets where a node is about to be taken away.
NODE_RECLAIMED = "NodeReclaimed"
_LOST_NODES = ("DeletionByTaintManager", "DeletionByPodGC", NODE_UNREACHABLE)

# Ends for which the cluster or a person is to blame, and not the job.
DISRUPTIONS = frozenset(
    {
        "Evicted",
        "NodeLost",
        "NodeReclaimed",
        "NodeRestarted",
        "NodeShutdown",
        "PodDeleted",
        "Preempted",
        "PreemptedByScheduler",
        "Suspended",
    }
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an attempt ended.

    Attributes:
        reason: CamelCase word.
        message: what it means, where it was, and what to do.
        rank: of the worker to blame; None where no single one is.
        exit_code: of that worker's container.
        is_permanent: whether another attempt must end likewise.
        is_disruption: whether the cluster or a person took the worker away; that is not counted as a restart.
    """

    reason: str
    message: str
    rank: int | None
    exit_code: int | None = None
    is_permanent: bool = False
    is_disruption: bool = False


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
        message=_join(f"The Kubernetes Job {child.name} failed.", _quote(child.message)),
        rank=None,
    )


def is_permanent(pod: observed.Pod) -> bool:
    """Tell whether a pod ended with what no further attempt can help."""
    suspect = _suspect(pod)
    return suspect is not None and suspect.failure.is_permanent


def explain_pod(pod: observed.Pod) -> Failure | None:
    """Return why one pod ended or is being taken away; None where it may go on."""
    suspect = _suspect(pod)
    return suspect.failure if suspect is not None else None


def without_outlook(message: str) -> str:
    """Return the message of a failure without what it says of the next attempt."""
    return message.replace(f" {_OUTLOOK}", "")


def read_outcome(pod: observed.Pod) -> progress.WorkerOutcome | None:
    """Return what a worker said when it ended, or None where it left no readable outcome document.

    Keys that this version does not know are passed over, and so are recoveries that it cannot read: the trainer's image
    may be newer.
    """
    try:
        document = json.loads(pod.exit_message)
    except ValueError:
        return None
    if not isinstance(document, dict):
        return None
    keys = {field.key for field in schema.document_fields(progress.WorkerOutcome)}
    known = {key: value for key, value in document.items() if key in keys}
    return _decode_outcome(known) or _decode_outcome({**known, "recoveries": None})


def _decode_outcome(document: Mapping[str, Any]) -> progress.WorkerOutcome | None:
    try:
        return schema.decode(progress.WorkerOutcome, document)
    except schema.ValidationError:
        return None


def _suspect(pod: observed.Pod) -> _Suspect | None:
    if pod.phase == "Succeeded":
        return None
    is_over = pod.phase == "Failed" or pod.exit_code is not None
    failure = _explain_loss(pod) or (_explain_end(pod) if is_over else None)
    if failure is None and pod.deletion_deadline is not None:
        failure = _explain_deletion(pod)
    if failure is None:
        return None
    began = pod.deleted_at if failure.reason == "PodDeleted" else pod.finished_at
    ended_at = began.timestamp() if began else math.inf
    is_kept = pod.deletion_deadline is None and not pod.is_gone
    return _Suspect(failure, is_deleted=failure.reason == "PodDeleted", ended_at=ended_at, is_kept=is_kept)


def _explain_missing(ranks: Sequence[int], workers: int) -> Failure:
    if len(ranks) == workers:
        who = "The pods of all workers were" if workers > 1 else "The pod of the worker was"
    else:
        who = f"The pod of worker {ranks[0]} was" if len(ranks) == 1 else f"The pods of workers {_list(ranks)} were"
    return Failure(
        reason="PodDeleted",
        message=f"{who} deleted from the cluster. {_OUTLOOK}",
        rank=ranks[0] if len(ranks) == 1 else None,
        is_disruption=True,
    )


def _list(ranks: Sequence[int]) -> str:
    shown = ", ".join(map(str, ranks[:8]))
    return shown if len(ranks) <= 8 else f"{shown} and {len(ranks) - 8} more"


def _explain_loss(pod: observed.Pod) -> Failure | None:
    """Explain what the cluster did to the pod, whatever its container made of it."""
    return _explain_removal(pod) or _explain_node(pod)


def _explain_removal(pod: observed.Pod) -> Failure | None:
    """Explain a pod that was asked to go."""
    told = _quote(pod.pod_message)
    if pod.disruption == "PreemptionByScheduler" or pod.pod_reason == "Preempting":
        advice = "If it must not yield, give it a higher spec.worker.priorityClassName."
        return _disrupted(pod, "PreemptedByScheduler", "gave way to a pod of higher priority", advice, told)
    if pod.disruption == NODE_RECLAIMED:
        why = _quote(pod.disruption_message)
        return _disrupted(pod, "NodeReclaimed", "was asked to save and stop in time", "", why)
    if pod.disruption == "EvictionByEvictionAPI":
        return _disrupted(pod, "Evicted", "was evicted, as kubectl drain and cluster autoscalers do", "", told)
    if pod.pod_reason == "Evicted":
        advice = "Request what it needs in spec.worker.resources.requests, ephemeral-storage and memory included."
        return _disrupted(pod, "Evicted", "was evicted, for its node ran short of a resource", advice, told)
    return None


def _explain_node(pod: observed.Pod) -> Failure | None:
    """Explain a pod by what became of its node."""
    told = _quote(pod.pod_message)
    if pod.disruption == "TerminationByKubelet" or pod.pod_reason in ("NodeShutdown", "Shutdown"):
        return _disrupted(pod, "NodeShutdown", "was stopped, for its node shuts down", "", told)
    is_lost = pod.disruption in _LOST_NODES or pod.is_node_lost
    if is_lost or pod.exit_reason == "ContainerStatusUnknown":
        return _disrupted(pod, "NodeLost", "was lost: its node does not answer, is gone, or was tainted", "", told)
    if pod.exit_reason == "Unknown":  # containerd's word for a container that it finds ended when it starts itself
        return _disrupted(
            pod, "NodeRestarted", "ended when its node or the container runtime there restarted", "", told
        )
    return None


def _disrupted(pod: observed.Pod, reason: str, event: str, advice: str, told: str) -> Failure:
    return Failure(
        reason=reason,
        message=_join(f"{_name(pod)} {event}.", told, _OUTLOOK, advice),
        rank=pod.rank,
        exit_code=pod.exit_code,
        is_disruption=True,
    )


def _explain_deletion(pod: observed.Pod) -> Failure:
    return Failure(
        reason="PodDeleted",
        message=f"The pod of {_name(pod, start='worker')} was deleted. {_OUTLOOK}",
        rank=pod.rank,
        exit_code=pod.exit_code,
        is_disruption=True,
    )


def _explain_end(pod: observed.Pod) -> Failure:
    """Explain a pod by the end of its container."""
    if pod.exit_reason == "OOMKilled":
        return _explain_memory(pod)
    if pod.exit_reason in ("StartError", "ContainerCannotRun"):
        return _explain_start(pod)
    if pod.deletion_deadline is not None and pod.exit_code in (ExitCode.PREEMPTED, _TERMINATED, _KILLED):
        return _explain_deletion(pod)
    if pod.exit_code is None:
        return _explain_without_code(pod)
    return _explain_exit(pod, pod.exit_code)


def _explain_exit(pod: observed.Pod, code: int) -> Failure:
    if pod.exit_container != names.CONTAINER or code == ExitCode.DONE:
        return _explain_other_container(pod)
    if code == _KILLED:
        return _explain_kill(pod)
    return _explain_code(pod, code)


def _explain_memory(pod: observed.Pod) -> Failure:
    advice = "Raise spec.worker.resources.limits.memory, or lower spec.training.globalBatchSize."
    what = _name(pod) if pod.exit_container == names.CONTAINER else f"Container {pod.exit_container!r} of {_name(pod)}"
    return Failure(
        reason="OOMKilled",
        message=f"{what} ran out of memory (exit status {pod.exit_code}). {advice}",
        rank=pod.rank,
        exit_code=pod.exit_code,
    )


def _explain_kill(pod: observed.Pod) -> Failure:
    """Explain a SIGKILL for the supervisor, which takes no memory, of which the runtime knows no more."""
    advice = f"If it comes again, see what happens on its node: kubectl describe node {pod.node}."
    return Failure(
        reason="Killed",
        message=f"{_name(pod)} was killed from outside (SIGKILL, exit status {pod.exit_code}). {_OUTLOOK} {advice}",
        rank=pod.rank,
        exit_code=pod.exit_code,
    )


def _explain_start(pod: observed.Pod) -> Failure:
    told = _quote(pod.exit_message)
    return Failure(
        reason="StartError",
        message=_join(
            f"The container of {_name(pod, start='worker')} could not be started.",
            told,
            "Check spec.worker.image: it must hold the trainer and fit the node's processor.",
        ),
        rank=pod.rank,
        exit_code=pod.exit_code,
        is_permanent=any(sign in pod.exit_message.lower() for sign in _UNFIT_IMAGE),
    )


def _explain_without_code(pod: observed.Pod) -> Failure:
    """Explain a pod that failed before its container ran, such as one that its node did not admit."""
    if pod.deletion_deadline is not None and not pod.pod_reason:
        return _explain_deletion(pod)
    told = _quote(f"{pod.pod_reason}: {pod.pod_message}" if pod.pod_message else pod.pod_reason)
    return Failure(
        reason="PodFailed",
        message=_join(f"The pod of {_name(pod, start='worker')} failed before it ran.", told),
        rank=pod.rank,
    )


def _explain_other_container(pod: observed.Pod) -> Failure:
    if pod.exit_container == names.CONTAINER:
        event = f"Another container in the pod of {_name(pod, start='worker')} failed, though the worker was done."
    else:
        where = f"in the pod of {_name(pod, start='worker')}"
        event = f"Container {pod.exit_container!r} {where} failed with exit status {pod.exit_code}."
    tail = _tail(pod)
    return Failure(
        reason="ContainerFailed",
        message=_join(
            event, f"It ended with: {foreign_text.as_sentence(tail)}" if tail else "", "Check spec.worker.podTemplate."
        ),
        rank=pod.rank,
        exit_code=pod.exit_code,
    )


def _explain_code(pod: observed.Pod, code: int) -> Failure:
    """Explain a worker by its exit code (imagetrain_api.exit_codes) and its own account."""
    outcome = exit_codes.find_outcome(code)
    has_own_advice = code in _TOLD_WITH_ADVICE and _own_words(pod, code) != ""
    return Failure(
        reason=outcome.reason,
        message=_join(outcome.meaning, _account(pod, code), "" if has_own_advice else outcome.advice),
        rank=pod.rank,
        exit_code=code,
        is_permanent=not outcome.is_retryable,
        is_disruption=code == ExitCode.PREEMPTED,
    )


def _own_words(pod: observed.Pod, code: int) -> str:
    """Return what the worker told of this end; "" where it told nothing, or of another."""
    told = read_outcome(pod)
    return told.message if told is not None and told.exit_code == code else ""


def _account(pod: observed.Pod, code: int) -> str:
    told = read_outcome(pod)
    if words := _own_words(pod, code):
        return f"{_name(pod)}: {_quote(words)}"
    known = code in ExitCode.__members__.values()
    status = "" if known else f" ended with exit status {code}{_signal_name(code)}"
    tail = "" if told is not None else _tail(pod)
    where = f"{_name(pod)}{status}"
    if not tail:
        return f"{where}." if status else f"It was {_name(pod, start='worker')}."
    return f"{where}; the end of its log: {foreign_text.as_sentence(tail)}"


def _signal_name(code: int) -> str:
    try:
        return f" ({signal.Signals(code - 128).name})"
    except ValueError:
        return ""


def _name(pod: observed.Pod, *, start: str = "Worker") -> str:
    return f"{start} {pod.rank} on node {pod.node}" if pod.node else f"{start} {pod.rank}"


def _quote(text: str) -> str:
    return foreign_text.as_sentence(foreign_text.shorten(text, _MAX_FOREIGN_CHARACTERS))


def _tail(pod: observed.Pod) -> str:
    return foreign_text.shorten(pod.exit_message, _MAX_TAIL_CHARACTERS, keeps_end=True)


def _join(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)
