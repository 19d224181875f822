"""Pods of nodes that do not answer, where a job asks for their deletion by force."""

import dataclasses
from typing import Any

import pytest

import cluster_objects
import observations as o
from imagetrain_operator import observed
from imagetrain_operator.cluster import pod_deletions
from imagetrain_operator.plan import causes, parse, pod_ends

LOST: dict[str, Any] = {"is_node_lost": True, "is_ready": False, "node_lost_since": o.NOW}
EVICTED: dict[str, Any] = {"disruption": "DeletionByTaintManager", "deleted_at": o.NOW, "is_ready": False}


def decide(pod: observed.Pod, seconds: float, **recovery: Any) -> tuple[list[str], float | None]:
    """Return the pods that are deleted by force, and when to look again."""
    job = o.training(recovery={"forceDeleteAfterSeconds": 60, **recovery})
    made = o.plan(job, children_=(o.build_child(),), pods=(o.build_pod(0), pod), now=o.after(seconds))
    return [each.pod.name for each in made.delete_pods], made.requeue_after_seconds


@pytest.mark.parametrize(
    ("pod", "seconds", "is_deleted"),
    [
        (o.build_pod(1, **LOST), 59, False),
        (o.build_pod(1, **LOST), 61, True),
        (o.build_pod(1, **LOST, deletion_deadline=o.after(90)), 61, True),  # it need not be evicted
        (o.build_pod(1, **EVICTED, deletion_deadline=o.after(30)), 61, True),  # and is still there
        (o.build_pod(1, **EVICTED, deletion_deadline=o.after(90)), 61, False),  # it still saves
        (o.pending(1, **EVICTED, deletion_deadline=o.after(90)), 61, True),  # it was sent to a dead node
        (o.build_pod(1), 1e6, False),
        (o.build_pod(1, deleted_at=o.NOW, deletion_deadline=o.after(30)), 1e6, False),  # stuck, but its node may answer
        (o.failed(1, 143, **LOST), 1e6, False),
        (o.build_pod(1, phase="Failed", disruption=causes.NODE_UNREACHABLE), 1, True),  # half done
        (o.build_pod(1, phase="Failed", disruption=causes.NODE_UNREACHABLE, is_gone=True), 61, False),
    ],
)
def test_pod_is_deleted_once_its_node_was_silent_for_so_long(
    pod: observed.Pod,
    seconds: float,
    is_deleted: bool,  # noqa: FBT001
) -> None:
    assert decide(pod, seconds)[0] == ([pod.name] if is_deleted else [])


def test_nothing_is_deleted_by_force_unasked() -> None:
    assert decide(o.build_pod(1, **LOST), 1e6, forceDeleteAfterSeconds=None)[0] == []


def test_operator_looks_again_when_the_time_is_over() -> None:
    assert decide(o.build_pod(1, **LOST, deletion_deadline=o.after(900)), 58)[1] == pytest.approx(2.0)


def test_pods_of_earlier_attempts_and_of_jobs_that_ended_go_too() -> None:
    job = o.training(recovery={"forceDeleteAfterSeconds": 60})
    old = o.build_pod(1, **LOST, deletion_deadline=o.NOW)
    later = dataclasses.replace(job, status=dataclasses.replace(job.status, attempt=3))
    pods = (old, o.build_pod(0, 3), o.build_pod(1, 3))
    made = o.plan(later, children_=(o.build_child(3),), pods=pods, now=o.after(100))
    assert [each.pod for each in made.delete_pods] == [old]
    ended = o.carried(job, o.plan(job, children_=(o.build_child(),), pods=(o.succeeded(0), o.succeeded(1))))
    assert ended.status.phase == "Succeeded"
    assert [each.pod for each in o.plan(ended, pods=(old,), now=o.after(100)).delete_pods] == [old]


def test_event_names_pod_node_and_setting() -> None:
    job = o.training(recovery={"forceDeleteAfterSeconds": 60})
    pods = (o.build_pod(0), o.build_pod(1, **LOST))
    made = o.plan(job, children_=(o.build_child(),), pods=pods, now=o.after(100))
    (deletion,) = made.delete_pods
    assert (deletion.event.kind, deletion.event.reason) == ("Warning", "ForceDeleted")
    message = deletion.event.message
    for word in ("digits-0-1-x", "worker 1", "node n2", "60 s", "spec.recovery.forceDeleteAfterSeconds"):
        assert word in message


def test_since_when_a_node_is_silent_is_read_from_its_pod() -> None:
    raw = cluster_objects.build_pod()
    raw["status"] = {
        "phase": "Running",
        "conditions": [
            {"type": "Ready", "status": "False", "lastTransitionTime": "2026-03-01T12:00:40Z"},
            {"type": "ContainersReady", "status": "True", "lastTransitionTime": "2026-03-01T11:00:00Z"},
        ],
    }
    pod = parse.parse_pod(raw)
    assert pod is not None
    assert (pod.is_node_lost, pod.node_lost_since) == (True, o.after(40))


def test_pod_that_was_called_failed_for_its_node_is_a_lost_node() -> None:
    job = o.training(recovery={"forceDeleteAfterSeconds": 60})
    pods = (o.build_pod(0), o.build_pod(1, **LOST))
    (deletion,) = o.plan(job, children_=(o.build_child(),), pods=pods, now=o.after(100)).delete_pods
    assert deletion.by_force
    patch: dict[str, Any] = pod_deletions.build_disruption_patch(deletion, o.NOW)
    raw = cluster_objects.build_pod()
    running = {"name": "worker", "ready": True, "state": {"running": {}}, "restartCount": 0}
    raw["status"] = {**patch["status"], "containerStatuses": [running]}
    pod = parse.parse_pod(raw)
    assert pod is not None
    assert (pod.is_finished, pod.is_ready) == (True, False)
    failure = pod_ends.explain(pod)
    assert failure is not None
    assert (failure.reason, failure.is_disruption) == ("NodeLost", True)
