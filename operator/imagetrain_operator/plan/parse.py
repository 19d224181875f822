"""From objects as the API server sends them to the types of `observed`.

It runs on every watch event, so it reads only what the operator looks at. Nothing here decides anything.
"""

import datetime as dt
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from imagetrain_api import job, names, rules, schema, status
from imagetrain_operator import observed

# A container in one of these states waits for its turn; in any other, something is wrong with it.
_ORDINARY_WAITS = frozenset({"ContainerCreating", "PodInitializing"})


def parse_training_job(raw: observed.RawObject, known: observed.TrainingJob | None = None) -> observed.TrainingJob:
    """Read an ImageTrainingJob.

    Args:
        raw: the object.
        known: what was made of an earlier version; its spec is not decoded again where it is the same.
    """
    metadata = raw["metadata"]
    uid, generation = metadata["uid"], metadata.get("generation", 0)
    if known is not None and (known.uid, known.generation) == (uid, generation):
        decoded, errors = known.job, known.errors
    else:
        decoded, errors = _decode_job(raw)
    return observed.TrainingJob(
        key=observed.Key(metadata["namespace"], metadata["name"]),
        uid=uid,
        generation=generation,
        resource_version=metadata["resourceVersion"],
        is_deleting="deletionTimestamp" in metadata,
        job=decoded,
        errors=errors,
        status=_parse_status(raw.get("status")),
    )


def _decode_job(raw: observed.RawObject) -> tuple[job.ImageTrainingJob | None, tuple[rules.FieldError, ...]]:
    try:
        return job.decode_job(raw), ()
    except schema.ValidationError as error:
        return None, error.errors


def _parse_status(value: object) -> status.JobStatus:
    return typing.cast("status.JobStatus", _salvage(status.JobStatus, value) or status.JobStatus())


def _salvage(cls: type[schema.Document], value: object) -> schema.Document | None:
    """Make a document of what can be understood, or None where a required field cannot.

    An operator of another version may have written the status. What this one does not know must not make it forget the
    rest, or it would start a finished job again.
    """
    if not isinstance(value, Mapping):
        return None
    fields = schema.document_fields(cls)
    arguments = {}
    for field in fields:
        if (item := value.get(field.key)) is not None:
            read = _salvage_value(rules.without_none(field.type), item)
            if read is not None:
                arguments[field.name] = read
    return _construct(cls, arguments) or _construct(cls, _only_valid(fields, arguments))


def _construct(cls: type[schema.Document], arguments: Mapping[str, object]) -> schema.Document | None:
    try:
        return cls(**arguments)
    except (schema.ValidationError, TypeError):  # TypeError: a required field is missing
        return None


def _only_valid(fields: Iterable[schema.DocumentField], arguments: Mapping[str, object]) -> dict[str, object]:
    return {
        field.name: arguments[field.name]
        for field in fields
        if field.name in arguments
        and not rules.value_errors(field.type, arguments[field.name], field.key, field.setting)
    }


def _salvage_value(kind: rules.TypeForm, value: object) -> object:
    if isinstance(kind, type) and issubclass(kind, schema.Document):
        return _salvage(kind, value)
    origin: object = typing.get_origin(kind)
    if origin is tuple:
        item_kind = typing.get_args(kind)[0]
        items = value if isinstance(value, list) else ()
        return tuple(read for item in items if (read := _salvage_value(item_kind, item)) is not None)
    return float(value) if kind is float and type(value) is int else value


def parse_child_job(raw: observed.RawObject) -> observed.ChildJob | None:
    """Read a Kubernetes Job, or return None where it does not bear the labels of an attempt."""
    metadata = raw["metadata"]
    labels = metadata.get("labels") or {}
    attempt = _number(labels.get(names.LABEL_ATTEMPT))
    if names.LABEL_JOB not in labels or attempt is None:
        return None
    state = raw.get("status") or {}
    conditions = state.get("conditions") or ()
    holding = {each["type"]: each.get("message", "") for each in conditions if each["status"] == "True"}
    return observed.ChildJob(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        owner_uid=_controller_uid(metadata),
        job_name=labels[names.LABEL_JOB],
        attempt=attempt,
        created_at=dt.datetime.fromisoformat(metadata["creationTimestamp"]),
        is_deleting="deletionTimestamp" in metadata,
        is_failed="Failed" in holding or "FailureTarget" in holding,
        is_complete="Complete" in holding,
        message=next((holding[kind] for kind in ("Failed", "FailureTarget", "Complete") if kind in holding), ""),
        started_at=_time(state.get("startTime")),
    )


def _controller_uid(metadata: Mapping[str, Any]) -> str:
    for owner in metadata.get("ownerReferences") or ():
        if (
            owner.get("controller")
            and owner["kind"] == names.KIND
            and owner["apiVersion"].startswith(f"{names.GROUP}/")
        ):
            return str(owner["uid"])
    return ""


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() else None


def parse_pod(raw: observed.RawObject) -> observed.Pod | None:
    """Read a pod, or return None where it does not bear the labels of an attempt's worker."""
    metadata, state = raw["metadata"], raw.get("status") or {}
    labels = metadata.get("labels") or {}
    attempt, rank = _number(labels.get(names.LABEL_ATTEMPT)), _number(labels.get(names.LABEL_RANK))
    if names.LABEL_JOB not in labels or attempt is None or rank is None:
        return None
    conditions = {each["type"]: each for each in state.get("conditions") or ()}
    containers = state.get("containerStatuses") or ()
    worker: Mapping[str, Any] = next((each for each in containers if each["name"] == names.CONTAINER), {})
    everything = (*(state.get("initContainerStatuses") or ()), *containers)
    waiting = _find_wait(everything)
    ended, end = _find_end(worker, everything if state.get("phase") == "Failed" else ())
    is_node_lost = _is_node_lost(state, conditions)
    return observed.Pod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        job_name=labels[names.LABEL_JOB],
        run_id=labels.get(names.LABEL_RUN, ""),
        attempt=attempt,
        rank=rank,
        created_at=dt.datetime.fromisoformat(metadata["creationTimestamp"]),
        phase=state.get("phase", "Pending"),
        node=raw["spec"].get("nodeName", ""),
        ip=state.get("podIP", ""),
        is_ready=_is_ready(worker, state.get("phase", "")) and not is_node_lost,
        is_node_lost=is_node_lost,
        deletion_deadline=_time(metadata.get("deletionTimestamp")),
        deleted_at=_read_deleted_at(metadata),
        unschedulable=_message(conditions.get("PodScheduled"), "False", "Unschedulable"),
        waiting_reason=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        restarts=sum(each.get("restartCount", 0) for each in everything),
        exit_container=ended,
        exit_code=end.get("exitCode"),
        exit_reason=end.get("reason", ""),
        exit_message=end.get("message", ""),
        finished_at=_time(end.get("finishedAt")),
        pod_reason=state.get("reason", ""),
        pod_message=state.get("message", ""),
        disruption=_told(conditions.get("DisruptionTarget"), "reason"),
        disruption_message=_told(conditions.get("DisruptionTarget"), "message"),
        placed_at=_read_placed_at(conditions.get("PodScheduled")),
        node_lost_since=_time((conditions.get("Ready") or {}).get("lastTransitionTime")) if is_node_lost else None,
    )


def _is_ready(worker: Mapping[str, Any], phase: str) -> bool:
    """Tell whether the worker is at work: a pod that was called failed for its node keeps its kubelet's last word."""
    return phase == "Running" and worker.get("ready", False) and "running" in worker["state"]


def _time(text: str | None) -> dt.datetime | None:
    return dt.datetime.fromisoformat(text) if text else None


def _read_placed_at(condition: Mapping[str, Any] | None) -> dt.datetime | None:
    is_placed = condition is not None and condition["status"] == "True"
    return _time(condition.get("lastTransitionTime")) if condition and is_placed else None


def _read_deleted_at(metadata: Mapping[str, Any]) -> dt.datetime | None:
    """Return when a deletion was asked for: the deadline that the API server keeps, less the grace period."""
    if not (deadline := metadata.get("deletionTimestamp")):
        return None
    return dt.datetime.fromisoformat(deadline) - dt.timedelta(seconds=metadata.get("deletionGracePeriodSeconds") or 0)


def _find_wait(containers: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the waiting state that tells most: of a container with a trouble, else of any that waits."""
    waits = [each["state"]["waiting"] for each in containers if "waiting" in (each.get("state") or ())]
    return next((each for each in waits if each.get("reason") not in _ORDINARY_WAITS), waits[0] if waits else {})


def _find_end(worker: Mapping[str, Any], suspects: Iterable[Mapping[str, Any]]) -> tuple[str, Mapping[str, Any]]:
    """Return the container whose end tells most, and that end: the worker's, else that of a suspect that failed."""
    if end := (worker.get("state") or {}).get("terminated"):
        return names.CONTAINER, end
    for each in suspects:
        end = (each.get("state") or {}).get("terminated")
        if end and end["exitCode"] != 0:
            return each["name"], end
    return names.CONTAINER, {}


def _is_node_lost(state: Mapping[str, Any], conditions: Mapping[str, Mapping[str, Any]]) -> bool:
    """Tell whether the node's pods were given up.

    When a node stops answering, its life-cycle controller sets Ready to False and leaves ContainersReady as the kubelet
    had set it (Kubernetes, pkg/controller/util/node, MarkPodsNotReady). A kubelet that answers sets both, but for an
    open readiness gate, which it names.
    """
    if state.get("reason") == "NodeLost":
        return True
    ready, containers = conditions.get("Ready"), conditions.get("ContainersReady")
    return (
        state.get("phase") == "Running"
        and ready is not None
        and containers is not None
        and ready["status"] != "True"
        and containers["status"] == "True"
        and ready.get("reason") != "ReadinessGatesNotReady"
    )


def _message(condition: Mapping[str, Any] | None, expected: str, reason: str) -> str:
    is_meant = condition is not None and condition["status"] == expected and condition.get("reason") == reason
    return str(condition.get("message") or reason) if is_meant and condition else ""


def _told(condition: Mapping[str, Any] | None, key: str) -> str:
    return str(condition.get(key) or "") if condition and condition["status"] == "True" else ""
