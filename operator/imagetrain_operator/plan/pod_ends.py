"""Why one pod ended, or is being taken away: what the cluster did, how its container ended, what its worker told."""

import json
import signal
from collections.abc import Mapping
from typing import Any

from imagetrain_api import exit_codes, names, progress, schema
from imagetrain_api.exit_codes import ExitCode
from imagetrain_operator import observed
from imagetrain_operator.plan import foreign_text
from imagetrain_operator.plan.causes import NODE_RECLAIMED, NODE_UNREACHABLE, OUTLOOK, Failure

_MAX_FOREIGN_CHARACTERS = 480  # leaves room for the sentences around it (status.MAX_MESSAGE_CHARACTERS)
_MAX_TAIL_CHARACTERS = 300
_KILLED = 128 + signal.SIGKILL
_TERMINATED = 128 + signal.SIGTERM
_LOST_NODES = ("DeletionByTaintManager", "DeletionByPodGC", NODE_UNREACHABLE)

# What the trainer's storage says of these names the remedy, and more exactly than the table of codes can.
_TOLD_WITH_ADVICE = frozenset({ExitCode.STORAGE_UNAVAILABLE, ExitCode.ACCESS_DENIED, ExitCode.NOT_FOUND})

# What a runtime says where the image cannot run at all, so that no further attempt can help.
_UNFIT_IMAGE = ("executable file not found", "no such file or directory", "permission denied", "exec format error")


def explain(pod: observed.Pod) -> Failure | None:
    """Return why a pod ended or is being taken away; None where it may go on, or is done."""
    if pod.phase == "Succeeded":
        return None
    is_over = pod.phase == "Failed" or pod.exit_code is not None
    failure = _explain_loss(pod) or (_explain_end(pod) if is_over else None)
    if failure is None and pod.deletion_deadline is not None:
        return _explain_deletion(pod)
    return failure


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


def _explain_loss(pod: observed.Pod) -> Failure | None:
    """Explain what the cluster did to the pod, whatever its container made of it."""
    return _explain_removal(pod) or _explain_node(pod)


def _explain_removal(pod: observed.Pod) -> Failure | None:
    """Explain a pod that was asked to go."""
    told = quote(pod.pod_message)
    if pod.disruption == "PreemptionByScheduler" or pod.pod_reason == "Preempting":
        advice = "If it must not yield, give it a higher spec.worker.priorityClassName."
        return _disrupted(pod, "PreemptedByScheduler", "gave way to a pod of higher priority", advice, told)
    if pod.disruption == NODE_RECLAIMED:
        why = quote(pod.disruption_message)
        return _disrupted(pod, "NodeReclaimed", "was asked to save and stop in time", "", why)
    if pod.disruption == "EvictionByEvictionAPI":
        return _disrupted(pod, "Evicted", "was evicted, as kubectl drain and cluster autoscalers do", "", told)
    if pod.pod_reason == "Evicted":
        advice = "Request what it needs in spec.worker.resources.requests, ephemeral-storage and memory included."
        return _disrupted(pod, "Evicted", "was evicted, for its node ran short of a resource", advice, told)
    return None


def _explain_node(pod: observed.Pod) -> Failure | None:
    """Explain a pod by what became of its node."""
    told = quote(pod.pod_message)
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
        message=_join(f"{_name(pod)} {event}.", told, OUTLOOK, advice),
        rank=pod.rank,
        exit_code=pod.exit_code,
        is_disruption=True,
    )


def _explain_deletion(pod: observed.Pod) -> Failure:
    return Failure(
        reason="PodDeleted",
        message=f"The pod of {_name(pod, start='worker')} was deleted. {OUTLOOK}",
        rank=pod.rank,
        exit_code=pod.exit_code,
        is_disruption=True,
    )


def _explain_end(pod: observed.Pod) -> Failure:
    """Explain a pod by the end of its container."""
    if pod.exit_reason == "OOMKilled" and not _has_told(pod):
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
        message=f"{_name(pod)} was killed from outside (SIGKILL, exit status {pod.exit_code}). {OUTLOOK} {advice}",
        rank=pod.rank,
        exit_code=pod.exit_code,
    )


def _explain_start(pod: observed.Pod) -> Failure:
    told = quote(pod.exit_message)
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
    told = quote(f"{pod.pod_reason}: {pod.pod_message}" if pod.pod_message else pod.pod_reason)
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


def _has_told(pod: observed.Pod) -> bool:
    """Tell whether the worker itself said why it ended.

    A runtime calls a container OOMKilled where memory ran out in it at any time before its end: for a training process,
    say, that was replaced in place long ago.
    """
    told = read_outcome(pod)
    return told is not None and told.exit_code == pod.exit_code


def _own_words(pod: observed.Pod, code: int) -> str:
    """Return what the worker told of this end; "" where it told nothing, or of another."""
    told = read_outcome(pod)
    return told.message if told is not None and told.exit_code == code else ""


def _account(pod: observed.Pod, code: int) -> str:
    told = read_outcome(pod)
    if words := _own_words(pod, code):
        return f"{_name(pod)}: {quote(words)}"
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


def quote(text: str) -> str:
    """Return what others said, cut to what a message has room for, as a sentence."""
    return foreign_text.as_sentence(foreign_text.shorten(text, _MAX_FOREIGN_CHARACTERS))


def _tail(pod: observed.Pod) -> str:
    return foreign_text.shorten(pod.exit_message, _MAX_TAIL_CHARACTERS, keeps_end=True)


def _join(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)
