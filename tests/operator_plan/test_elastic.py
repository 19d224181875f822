"""Elastic groups: which failures end an attempt, and what is told while workers are away."""

import dataclasses
from typing import Any

import pytest

import observations as o
from imagetrain_api import exit_codes
from imagetrain_operator import observed
from imagetrain_operator.plan import children
from imagetrain_operator.plan.draft import Plan

RECOVERY = {"minWorkers": 1, "elasticTimeoutSeconds": 20}
NO_ROOM = "0/2 nodes are available: 2 node(s) were unschedulable."
EVICTED = {"disruption": "EvictionByEvictionAPI"}


def training(**recovery: Any) -> observed.TrainingJob:
    return o.training(recovery={**RECOVERY, **recovery})


def follow(job: observed.TrainingJob, *pods: observed.Pod, seconds: float = 10, **figures: Any) -> Plan:
    """Decide while the chief tells of training."""
    child = o.build_child(job.status.attempt or 0)
    report = o.report(step=5, **figures)
    return o.plan(job, children_=(child,), pods=pods, progress_=report, now=o.after(seconds))


def newer(rank: int, **changes: Any) -> observed.Pod:
    """Return the pod that the Job controller made in place of one that ended."""
    return o.pending(rank, **{"name": f"digits-0-{rank}-y", "uid": f"new-{rank}", "created_at": o.after(9), **changes})


@pytest.mark.parametrize(
    "pods",
    [
        (o.failed(1, 143, **EVICTED),),
        (o.failed(1, 82, deletion_deadline=o.after(30)),),
        (o.failed(1, 137, exit_reason="OOMKilled"),),
        (o.failed(1, 80),),
        (),  # it was deleted, and the next one is not made yet
        (newer(1, node="", unschedulable=NO_ROOM),),
        (o.failed(1, 110), newer(1)),
        (o.build_pod(1, is_node_lost=True, is_ready=False, deletion_deadline=o.after(30)),),
        (o.build_pod(1, is_ready=False, deletion_deadline=o.after(-60)),),  # the node cannot say that it has ended
    ],
)
def test_group_goes_on_without_a_worker_that_is_away(pods: tuple[observed.Pod, ...]) -> None:
    made = follow(training(), o.build_pod(0), *pods)
    assert (made.status.phase, made.status.reason, made.status.ready) == ("Training", "Shrunk", "1/2")
    assert (made.status.attempt, made.status.restarts, made.status.attempts) == (0, 0, ())
    assert (made.delete_children, made.start_attempt, made.chief_ip) == ((), None, "10.0.0.1")
    assert o.conditions_of(made)["WorkersReady"] == ("False", "Shrunk")
    assert o.conditions_of(made)["Training"] == ("True", "Training")
    assert [(event.kind, event.reason) for event in made.events] == [("Warning", "Shrunk")]
    assert made.events[0].message.endswith("The group goes on without it after 20 s.")
    again = follow(o.carried(training(), made), o.build_pod(0), *pods, seconds=40)
    assert again.events == ()


def test_words_say_why_the_worker_is_away_and_how_many_train() -> None:
    evicted = follow(training(), o.build_pod(0), o.failed(1, 143, **EVICTED))
    assert evicted.status.message == (
        "The group is training. Worker 1 on node n2 was evicted, as kubectl drain and cluster autoscalers do."
    )
    waits = follow(o.carried(training(), evicted), o.build_pod(0), newer(1, node="", unschedulable=NO_ROOM))
    assert "Worker 1 fits on no node: 0/2 nodes are available" in waits.status.message


def test_worker_that_is_back_is_announced_once_the_group_trains_with_it() -> None:
    job = training()
    job = o.carried(job, follow(job, *o.RUNNING, workers=2))
    pods = (o.build_pod(0), o.failed(1, 143, **EVICTED))
    shrunk = follow(job, *pods, workers=1, seconds=20)
    assert shrunk.status.message.startswith("The group is training with 1 of 2 workers. Worker 1 on node n2 was ")
    job = o.carried(job, shrunk)
    pods = (*pods, newer(1, phase="Running", is_ready=True))
    back = follow(job, *pods, workers=1, seconds=30)
    assert (back.status.phase, back.status.reason, back.status.ready) == ("Training", "Shrunk", "2/2")
    assert back.status.message.endswith("1 of 2 workers. The others are taken in at the next checkpoint.")
    assert o.conditions_of(back)["WorkersReady"] == ("True", "WorkersReady")
    assert back.events == ()
    grown = follow(o.carried(job, back), *pods, workers=2, seconds=40)
    assert (grown.status.phase, grown.status.reason, grown.status.ready) == ("Training", "Training", "2/2")
    assert grown.status.message == "The group is training."
    assert [(event.kind, event.reason, event.message) for event in grown.events] == [
        ("Normal", "Grown", "The group trains with 2 of 2 workers after step 5.")
    ]


@pytest.mark.parametrize(
    ("pods", "reason"),
    [
        ((o.failed(0, 143, **EVICTED), o.build_pod(1)), "Evicted"),
        ((o.failed(0, 80), o.build_pod(1)), "PeerLost"),
        ((o.failed(0, 143, **EVICTED), newer(0), o.build_pod(1)), "Evicted"),  # it is replaced already
        ((o.failed(0, 80), o.failed(1, 137, exit_reason="OOMKilled")), "OOMKilled"),
        # An end long before has nothing to do with it.
        ((o.failed(0, 81), o.failed(1, 137, exit_reason="OOMKilled", finished_at=o.after(-60))), "Hung"),
        ((o.build_pod(0, is_node_lost=True, deletion_deadline=o.after(9)), o.build_pod(1)), "NodeLost"),
    ],
)
def test_loss_of_the_chief_starts_the_group_anew(pods: tuple[observed.Pod, ...], reason: str) -> None:
    made = follow(training(), *pods)
    assert made.status.attempts[0].reason == reason
    assert [child.name for child in made.delete_children] == ["digits-0"]
    assert made.status.attempt == 1


def test_workers_that_end_with_the_chief_are_heard_first() -> None:
    made = follow(training(), o.failed(0, 80), o.build_pod(1), seconds=1)
    assert (made.status.attempt, made.delete_children) == (0, ())
    assert made.requeue_after_seconds == pytest.approx(4.0)
    ended = (o.failed(0, 80), o.failed(1, 102, finished_at=o.after(2)))
    made = follow(o.carried(training(), made), *ended, seconds=2)
    assert (made.status.phase, made.status.reason) == ("Failed", "AccessDenied")


@pytest.mark.parametrize(
    "pod", [o.failed(1, 102), o.failed(1, 128, exit_reason="StartError", exit_message="exec format error")]
)
def test_permanent_error_of_any_worker_ends_the_job(pod: observed.Pod) -> None:
    job = training()
    made = follow(job, o.build_pod(0), pod)
    assert made.status.phase == "Failed"
    pods = (o.build_pod(0), pod)
    soon = o.plan(o.carried(job, made), children_=(o.build_child(),), pods=pods, now=o.after(15))
    assert (soon.delete_children, soon.requeue_after_seconds) == (
        (),
        5.0,
    )  # the Job controller stops them, and logs stay
    later = o.plan(o.carried(job, made), children_=(o.build_child(),), pods=pods, now=o.after(25))
    assert [child.name for child in later.delete_children] == ["digits-0"]  # it did not


def test_too_few_workers_are_no_group() -> None:
    job = o.training(workers=3, recovery={"minWorkers": 2})
    pods = (o.build_pod(0), o.build_pod(1), o.build_pod(2))
    job = o.carried(job, follow(job, *pods))
    made = follow(job, o.build_pod(0), newer(1, node="", unschedulable=NO_ROOM), newer(2))
    assert (made.status.phase, made.status.reason, made.status.ready) == ("Pending", "Unschedulable", "1/3")
    assert made.status.attempt == 0


def test_group_that_starts_waits_for_all_workers_first_and_then_trains_without_them() -> None:
    job = o.begun(recovery=RECOVERY)
    pods = (o.build_pod(0), o.pending(1, node="", unschedulable=NO_ROOM))
    first = o.plan(job, children_=(o.build_child(),), pods=pods, progress_=o.report("starting"), now=o.after(10))
    assert (first.status.phase, first.status.reason, first.chief_ip) == ("Pending", "Unschedulable", "10.0.0.1")
    made = follow(o.carried(job, first), *pods, seconds=60)
    assert (made.status.phase, made.status.reason) == ("Training", "Shrunk")
    assert o.reasons(made) == ["Shrunk", "Training"]
    assert made.status.progress is not None


def test_run_whose_chief_is_done_needs_nobody_else() -> None:
    for other in (newer(1), o.failed(1, 143, **EVICTED), o.build_pod(1, deletion_deadline=o.after(30)), None):
        pods = (
            o.succeeded(0, outcome={"manifestUri": "s3://demo/m/runs/r/manifest.json"}),
            *([other] if other else []),
        )
        assert o.plan(training(), children_=(o.build_child(),), pods=pods).status.phase == "Succeeded"
    pods = (o.succeeded(0), o.build_pod(1))  # it ends within the second
    made = o.plan(training(), children_=(o.build_child(),), pods=pods, progress_=o.report("publishing"))
    assert (made.status.phase, made.events) == ("Publishing", ())


def test_min_workers_of_all_workers_is_no_elastic_group() -> None:
    job = o.training(recovery={"minWorkers": 2})
    made = o.plan(job, children_=(o.build_child(is_failed=True),), pods=(o.failed(0, 80), o.failed(1, 110)))
    assert made.status.attempt == 1
    assert children.build_child_job(job, 0, children.Defaults(image="i"))["spec"]["backoffLimit"] == 0


def test_job_controller_replaces_workers_and_fails_at_once_where_no_replacement_helps() -> None:
    job = dataclasses.replace(training(maxRestarts=7), status=o.build_job().status)
    spec = children.build_child_job(job, 0, children.Defaults(image="i"))["spec"]
    assert "backoffLimit" not in spec  # it would end the Job for the failures of all ranks together
    assert (spec["backoffLimitPerIndex"], spec["podReplacementPolicy"]) == (7, "Failed")
    assert spec["successPolicy"] == {"rules": [{"succeededIndexes": "0"}]}
    permanent, disrupted, blameless = spec["podFailurePolicy"]["rules"]
    assert permanent["action"] == "FailJob"
    assert set(permanent["onExitCodes"]["values"]) == {
        code for code, outcome in exit_codes.OUTCOMES.items() if code and not outcome.is_retryable
    }
    assert disrupted == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert (blameless["action"], blameless["onExitCodes"]["values"]) == ("Ignore", [80, 82, 143])
