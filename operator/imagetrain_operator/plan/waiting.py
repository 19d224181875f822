"""What a group that is not ready waits for: in a word, and in a sentence that says what to do."""

import dataclasses
import re
from collections.abc import Sequence
from typing import NamedTuple

from imagetrain_operator import observed
from imagetrain_operator.plan import foreign_text

_MAX_FOREIGN_CHARACTERS = 480  # leaves room for the sentences around it (status.MAX_MESSAGE_CHARACTERS)
_MAX_NAMED = 8  # workers named in a message

# Kubernetes, pkg/kubelet/images/types.go, and the errors that a container runtime names itself.
_IMAGE_TROUBLES = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
_ORDINARY = frozenset({"", "ContainerCreating", "PodInitializing"})

# Kubernetes, pkg/kubelet: `secret "x" not found`, `couldn't find key k in Secret namespace/x`.
_NO_SECRET = re.compile(r'secrets? "([-.a-z0-9]{1,253})" not found')
_NO_KEY = re.compile(r"couldn't find key ([-._a-zA-Z0-9]{1,253}) in Secret [-a-z0-9]{1,63}/([-.a-z0-9]{1,253})")
# Kubernetes, pkg/kubelet/util/manager: kubelet has not read an object yet, and tries again within a second.
_PASSING = re.compile(r"failed to sync (secret|configmap) cache")
# The scheduler's second sentence: what driving other pods away would bring.
_PREEMPTION = re.compile(r"\s*(no new claims to deallocate, )?preemption: .*", re.DOTALL)
# What a mount says where nothing but the user's own doing can help.
_ABSENT = ("not found", "does not exist", "is not a directory", "references non-existent")

# Part of the scheduler's message in lower case, and what to do about it; the first that fits counts.
_SCHEDULING_ADVICE = (
    ("persistentvolumeclaim", "Check the claims in spec.worker.volumes."),
    ("insufficient nvidia.com/gpu", "Add GPU nodes or wait for GPUs, or lower spec.workers or nvidia.com/gpu."),
    ("insufficient", "Add nodes or wait for room, or lower spec.worker.resources or spec.workers."),
    ("untolerated taint", "Tolerate the taint in spec.worker.tolerations, or add nodes without it."),
    ("node affinity/selector", "Check spec.worker.nodeSelector and affinity against the labels of the nodes."),
    ("topology spread", "Check spec.worker.topologySpreadConstraints."),
)


class _Refusal(NamedTuple):
    """A refusal that is known: part of its text, the reason, whether only the user can help, and what to do."""

    sign: str
    reason: str
    is_stuck: bool
    advice: str


# The first that fits counts.
_REFUSALS = (
    _Refusal("spec.worker", "InvalidWorkerSettings", True, "Correct spec.worker."),  # by plan.pod_template
    _Refusal(
        "exceeded quota", "QuotaExceeded", False, "Wait for room, raise the quota, or lower spec.worker.resources."
    ),
    _Refusal(
        "failed quota", "QuotaExceeded", True, "The quota demands resources: state them in spec.worker.resources."
    ),
    _Refusal(
        "violates PodSecurity", "PodsRefused", True, "Take what the namespace's level forbids out of spec.worker."
    ),
    _Refusal(
        "cannot create resource", "PodsRefused", False, "The operator lacks a right here: apply its manifests again."
    ),
    _Refusal(
        "looking up service account",
        "PodsRefused",
        True,
        "Create the ServiceAccount, or correct spec.worker.serviceAccountName.",
    ),
    _Refusal(
        "no PriorityClass", "PodsRefused", True, "Create the PriorityClass, or correct spec.worker.priorityClassName."
    ),
    _Refusal(
        "failed calling webhook", "PodsRefused", False, "A webhook of the cluster does not answer: tell its owner."
    ),
    _Refusal("denied the request", "PodsRefused", True, "A webhook forbids it: change spec.worker as it says."),
    _Refusal("being terminated", "PodsRefused", False, "The namespace is being deleted: create the job in another."),
    _Refusal("is invalid", "PodsRefused", True, "Correct the field in spec.worker, or in its podTemplate."),
    _Refusal("", "PodsRefused", True, "Change spec.worker so that the cluster accepts the pods."),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What a group waits for.

    Attributes:
        reason: CamelCase word.
        message: what it is, which workers, and what to do.
        is_stuck: whether it lasts until the user does something.
    """

    reason: str
    message: str
    is_stuck: bool = False


def explain_waiting(observation: observed.Observation) -> Waiting | None:
    """Return what the newest attempt's workers wait for; None where all are ready or there is no attempt.

    What only the user can mend comes before what time may mend.
    """
    job, attempt = observation.job.job, observation.job.status.attempt
    if job is None:
        return None
    group = [pod for pod in observation.pods if attempt is None or pod.attempt == attempt]
    pods = sorted((pod for pod in group if not pod.is_ready and not pod.is_finished), key=lambda pod: pod.rank)
    denied = observation.denial and _explain_denial(observation.denial)
    if denied and denied.is_stuck:
        return denied
    if cause := _explain_containers(observation.job, pods) or _explain_mount(observation, pods):
        return cause
    if denied:
        return denied
    if unplaced := [pod for pod in pods if pod.unschedulable]:
        return _explain_unschedulable(unplaced)
    missing = job.spec.workers - len({pod.rank for pod in group})
    return _count(job.spec.workers, pods, missing) if pods or missing > 0 else None


def _explain_containers(job: observed.TrainingJob, pods: Sequence[observed.Pod]) -> Waiting | None:
    troubled = [pod for pod in pods if pod.waiting_reason not in _ORDINARY and not _PASSING.search(pod.waiting_message)]
    if not troubled:
        return None
    first = troubled[0]
    if first.waiting_reason in _IMAGE_TROUBLES:
        return _explain_image(first, [pod for pod in troubled if pod.waiting_reason in _IMAGE_TROUBLES])
    same = [pod for pod in troubled if pod.waiting_reason == first.waiting_reason]
    who = _names(same, "cannot start its container", "cannot start their containers")
    return _explain_secret(job, first.waiting_message, same) or Waiting(
        reason="ContainerConfigError",
        message=f"{who} ({first.waiting_reason}){_quote(first.waiting_message)} "
        "Correct env, volumes or podTemplate of spec.worker.",
        is_stuck=True,
    )


def _explain_image(pod: observed.Pod, pods: Sequence[observed.Pod]) -> Waiting:
    advice = "Check spec.worker.image, and spec.worker.imagePullSecrets where the registry is private."
    if pod.waiting_reason == "InvalidImageName":
        advice = "Correct spec.worker.image."
    if pod.waiting_reason == "ErrImageNeverPull":
        advice = "Load the image on the nodes, or set spec.worker.imagePullPolicy to IfNotPresent."
    verb = _names(pods, "cannot get its image", "cannot get their image")
    message = f"{verb} ({pod.waiting_reason}){_quote(pod.waiting_message)} {advice}"
    return Waiting(reason="ImagePullFailed", message=message, is_stuck=True)


def _explain_secret(job: observed.TrainingJob, message: str, pods: Sequence[observed.Pod]) -> Waiting | None:
    who = _names(pods, "waits", "wait")
    namespace = job.key.namespace
    if found := _NO_KEY.search(message):
        key, secret = found.groups()
        patch = f'kubectl patch secret {secret} -n {namespace} -p \'{{"stringData":{{"{key}":"..."}}}}\''
        text = f"{who} for the key {key}, which the Secret {secret!r} does not have. Add it: {patch}"
    elif found := _NO_SECRET.search(message):
        secret = found[1]
        is_ours = job.job is not None and job.job.spec.s3.credentials_secret == secret
        keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if is_ours else ("KEY",)
        literals = " ".join(f"--from-literal={key}=..." for key in keys)
        create = f"kubectl create secret generic {secret} -n {namespace} {literals}"
        text = f"{who} for the Secret {secret!r}, which does not exist. Create it: {create}"
    else:
        return None
    return Waiting(reason="SecretMissing", message=text, is_stuck=True)


def _explain_mount(observation: observed.Observation, pods: Sequence[observed.Pod]) -> Waiting | None:
    problem, placed = observation.mount_problem, [pod for pod in pods if pod.node]
    if not problem or not placed or _PASSING.search(problem):
        return None
    return _explain_secret(observation.job, problem, placed) or Waiting(
        reason="VolumeNotMounted",
        message=f"{_names(placed, 'waits', 'wait')} for a volume{_quote(problem)} Check spec.worker.volumes.",
        is_stuck=any(sign in problem for sign in _ABSENT),
    )


def _explain_denial(denial: observed.Denial) -> Waiting:
    known = next(refusal for refusal in _REFUSALS if refusal.sign in denial.message)
    return Waiting(
        reason=known.reason,
        message=f"The workers are refused{_quote(denial.message.removeprefix('Error creating: '))} {known.advice}",
        is_stuck=known.is_stuck or denial.is_final,
    )


def _explain_unschedulable(pods: Sequence[observed.Pod]) -> Waiting:
    told = _PREEMPTION.sub("", pods[0].unschedulable)
    rows = (advice for sign, advice in _SCHEDULING_ADVICE if sign in told.lower())
    advice = next(rows, "Compare the nodes with what spec.worker asks for.")
    return Waiting(
        reason="Unschedulable",
        message=f"{_names(pods, 'fits', 'fit')} on no node{_quote(told)} {advice}",
    )


def _count(workers: int, pods: Sequence[observed.Pod], missing: int) -> Waiting:
    unplaced = sum(1 for pod in pods if not pod.node)
    parts = (
        (missing, "not made yet"),
        (unplaced, "without a node"),
        (len(pods) - unplaced, "starting"),
    )
    ready = workers - len(pods) - max(missing, 0)
    told = ", ".join(f"{count} {what}" for count, what in parts if count > 0)
    return Waiting(reason="StartingWorkers", message=f"{ready} of {workers} workers ready, {told}.")


def _names(pods: Sequence[observed.Pod], singular: str, plural: str) -> str:
    ranks = [str(pod.rank) for pod in pods]
    if len(ranks) == 1:
        return f"Worker {ranks[0]} {singular}"
    shown = ", ".join(ranks[:_MAX_NAMED])
    more = f" and {len(ranks) - _MAX_NAMED} more" if len(ranks) > _MAX_NAMED else ""
    return f"Workers {shown}{more} {plural}"


def _quote(text: str) -> str:
    """Return what follows a clause: a colon and the text of others, or a full stop where there is none."""
    shown = foreign_text.as_sentence(foreign_text.shorten(text, _MAX_FOREIGN_CHARACTERS))
    return f": {shown}" if shown else "."
