"""Notices that a node is about to be taken away: what counts as one, and which pods are asked to save."""

import dataclasses
from typing import Any

import pytest

import cluster_objects
import observations as o
from imagetrain_operator import observed
from imagetrain_operator.cluster import pod_deletions
from imagetrain_operator.plan import causes, decide, node_notices, parse, pod_ends
from imagetrain_operator.plan.draft import Plan

SPOT = "aws-node-termination-handler/spot-itn"
SCALE_DOWN = "ToBeDeletedByClusterAutoscaler"
KEYS = frozenset({SPOT, SCALE_DOWN})
NOTICE = observed.NodeNotice(node="n2", taint=SPOT, since=o.after(60))
PLACED: dict[str, Any] = {"placed_at": o.NOW}


def taint(key: str = SPOT, effect: str = "NoSchedule", **rest: Any) -> dict[str, Any]:
    return {"key": key, "effect": effect, **rest}


def read(
    *taints: dict[str, Any], known: observed.NodeNotice | None = None, seconds: float = 60, **metadata: Any
) -> observed.NodeNotice | None:
    raw = {"metadata": {"name": "n2", **metadata}, "spec": {"taints": list(taints)} if taints else {}}
    return node_notices.read_notice(raw, KEYS, known, o.after(seconds))


@pytest.mark.parametrize(
    "found",
    [
        (),
        (taint("node.kubernetes.io/unschedulable"),),
        (taint("nvidia.com/gpu", "NoExecute"),),
        (taint(effect="PreferNoSchedule"),),
    ],
)
def test_other_taints_and_mere_wishes_are_no_notices(found: tuple[dict[str, Any], ...]) -> None:
    assert read(*found) is None


@pytest.mark.parametrize("effect", ["NoSchedule", "NoExecute"])
def test_taint_with_a_chosen_key_is_a_notice(effect: str) -> None:
    assert read(taint("nvidia.com/gpu"), taint(effect=effect)) == NOTICE


def test_node_that_is_being_deleted_gives_notice_of_its_own_time() -> None:
    notice = read(deletionTimestamp="2026-03-01T12:00:30Z")
    assert notice == observed.NodeNotice(node="n2", taint="", since=o.after(30))
    assert notice.cause == "its deletion"


def test_notice_begins_when_the_taint_was_added_but_not_in_the_future() -> None:
    early, late = (read(taint(timeAdded=time)) for time in ("2026-03-01T12:00:20Z", "2026-03-01T13:00:00Z"))
    assert early is not None
    assert late is not None
    assert early.since == o.after(20)
    assert late.since == o.after(60)  # by the clock of who set it an hour ahead


def test_notice_stays_the_same_while_its_cause_is_there() -> None:
    assert read(taint(SCALE_DOWN), taint(), known=NOTICE, seconds=90) is NOTICE
    assert read(taint(), known=NOTICE, seconds=90, deletionTimestamp="2026-03-01T12:01:20Z") is NOTICE


def test_notice_is_over_with_its_taint_and_another_begins_anew() -> None:
    assert read(known=NOTICE) is None
    other = read(taint(SCALE_DOWN), known=NOTICE, seconds=90)
    assert other == observed.NodeNotice(node="n2", taint=SCALE_DOWN, since=o.after(90))


def plan(*pods: observed.Pod, notice: observed.NodeNotice = NOTICE, seconds: float = 61, **spec: Any) -> Plan:
    job = o.training(**spec)
    seen = observed.Observation(
        job=job,
        child_jobs=(o.build_child(),),
        pods=pods,
        progress=o.report(step=5),
        denial=None,
        mount_problem="",
        node_notices=(notice,),
    )
    return decide.decide(seen, o.after(seconds))


def deleted(*pods: observed.Pod, **settings: Any) -> list[str]:
    return [each.pod.name for each in plan(*pods, **settings).delete_pods]


def test_pods_on_such_a_node_are_deleted_with_their_grace_period_and_no_others() -> None:
    made = plan(o.build_pod(0, **PLACED), o.build_pod(1, **PLACED))
    (deletion,) = made.delete_pods
    assert (deletion.pod.rank, deletion.by_force, deletion.reason) == (1, False, causes.NODE_RECLAIMED)
    assert made.delete_children == ()  # the group saves, and the attempt ends by itself
    assert made.status.phase == "Training"


def test_event_is_one_sentence_that_names_pod_worker_node_and_cause() -> None:
    (deletion,) = plan(o.build_pod(0, **PLACED), o.build_pod(1, **PLACED)).delete_pods
    assert (deletion.event.kind, deletion.event.reason) == ("Warning", "NodeReclaimed")
    assert deletion.event.message == (
        "The pod digits-0-1-x of worker 1 is deleted, and the group saves first: node n2 is about to be taken away "
        "(taint aws-node-termination-handler/spot-itn)."
    )


@pytest.mark.parametrize(
    "pod",
    [
        o.build_pod(1, placed_at=o.after(61)),  # it tolerates the taint, and so would the next one
        o.build_pod(1),
        o.build_pod(1, **PLACED, deletion_deadline=o.after(120), deleted_at=o.after(60)),  # it saves already
        o.build_pod(1, **PLACED, is_node_lost=True, is_ready=False, node_lost_since=o.NOW),  # it cannot hear it
        o.failed(1, 82, **PLACED),
        o.succeeded(1),
        o.pending(1, node="", unschedulable="0/2 nodes are available"),
    ],
)
def test_pods_that_cannot_save_or_need_not_are_left_alone(pod: observed.Pod) -> None:
    assert deleted(o.build_pod(0, **PLACED), pod) == []


def test_pod_that_does_not_run_yet_starts_elsewhere_at_once() -> None:
    waiting = o.pending(1, **PLACED, waiting_reason="ContainerCreating")
    assert deleted(o.build_pod(0, **PLACED), waiting) == [waiting.name]


def test_each_pod_of_the_node_goes_the_chief_too() -> None:
    pods = (o.build_pod(0, node="n2", **PLACED), o.build_pod(1, **PLACED))
    assert deleted(*pods) == [pod.name for pod in pods]


def test_half_done_deletion_is_done_again() -> None:
    pod = o.build_pod(1, **PLACED, disruption=causes.NODE_RECLAIMED)  # the operator died before the deletion
    assert deleted(o.build_pod(0, **PLACED), pod) == [pod.name]


def test_job_that_is_deleted_needs_nothing() -> None:
    job = dataclasses.replace(o.training(), is_deleting=True)
    seen = observed.Observation(
        job=job,
        child_jobs=(o.build_child(),),
        pods=(o.build_pod(1, **PLACED),),
        progress=None,
        denial=None,
        mount_problem="",
        node_notices=(NOTICE,),
    )
    assert decide.decide(seen, o.after(61)).delete_pods == ()


def reclaimed(code: int | None = 82) -> observed.Pod:
    """Return a pod that was told why it is deleted, as the API server has it afterwards."""
    (deletion,) = plan(o.build_pod(0, **PLACED), o.build_pod(1, **PLACED)).delete_pods
    patch: Any = pod_deletions.build_disruption_patch(deletion, o.NOW)
    assert "phase" not in patch["status"]
    metadata = {"deletionTimestamp": "2026-03-01T12:03:00Z", "deletionGracePeriodSeconds": 120}
    told = patch["status"]["conditions"]
    if code is None:
        raw = cluster_objects.build_running_pod(rank=1, node="n2", metadata=metadata, status_conditions=told)
    else:
        raw = cluster_objects.build_ended_pod(code, rank=1, node="n2", metadata=metadata, conditions=told)
    pod = parse.parse_pod(raw)
    assert pod is not None
    return dataclasses.replace(pod, run_id=o.run_id(), job_name="digits")


@pytest.mark.parametrize("code", [None, 82, 80, 143, 137])
def test_end_of_such_a_pod_names_node_and_taint_and_is_not_the_job_s_fault(code: int | None) -> None:
    failure = pod_ends.explain(reclaimed(code))
    assert failure is not None
    assert (failure.reason, failure.rank, failure.is_disruption) == ("NodeReclaimed", 1, True)
    assert failure.message == (
        "Worker 1 on node n2 was asked to save and stop in time. Node n2 is about to be taken away "
        "(taint aws-node-termination-handler/spot-itn). The group resumes from its newest checkpoint."
    )


def test_attempt_that_ended_so_is_followed_by_another_and_not_counted() -> None:
    made = plan(o.failed(0, 82, finished_at=o.NOW), reclaimed())
    (ended,) = made.status.attempts
    assert (ended.reason, ended.rank) == ("NodeReclaimed", 1)
    assert (made.status.attempt, made.status.restarts, made.status.phase) == (1, 0, "Restarting")
    assert [(event.kind, event.reason) for event in made.events] == [("Warning", "NodeReclaimed")]


def test_elastic_group_goes_on_without_such_a_worker_and_tells_why() -> None:
    made = plan(o.build_pod(0, **PLACED), reclaimed(), recovery={"minWorkers": 1})
    assert (made.status.phase, made.status.reason, made.status.attempts) == ("Training", "Shrunk", ())
    assert "Node n2 is about to be taken away (taint aws-node-termination-handler/spot-itn)." in made.status.message
