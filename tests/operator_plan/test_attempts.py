"""Attempts that fail, are disturbed or lost, and when the next one starts."""

import pytest

import observations as o


def test_failed_worker_waits_for_its_peers_and_then_restarts_the_whole_group() -> None:
    job = o.training()
    first = o.plan(job, children_=(o.build_child(is_failed=True),), pods=(o.build_pod(0), o.failed(1, 137)))
    assert (first.status.phase, first.start_attempt, first.delete_children) == ("Restarting", None, ())
    assert first.status.message.endswith("Waiting for worker 0 to stop.")
    assert first.status.ready == "1/2"
    ended = (o.failed(0, 80), o.failed(1, 137, exit_reason="OOMKilled"))
    second = o.plan(o.carried(job, first), children_=(o.build_child(is_failed=True),), pods=ended, now=o.after(9))
    assert [child.name for child in second.delete_children] == ["digits-0"]
    assert second.start_attempt == 1
    assert (second.status.attempt, second.status.restarts, second.status.phase) == (1, 1, "Restarting")
    (record,) = second.status.attempts
    assert (record.attempt, record.reason, record.rank, record.exit_code, record.step) == (0, "OOMKilled", 1, 137, 3)


def test_permanent_failure_ends_the_job_at_once_and_keeps_the_pods() -> None:
    job = o.training()
    made = o.plan(job, children_=(o.build_child(),), pods=(o.build_pod(0), o.failed(1, 102)))
    assert (made.status.phase, made.status.reason, made.status.ready) == ("Failed", "AccessDenied", "0/2")
    assert (made.start_attempt, made.delete_children) == (None, ())
    assert o.conditions_of(made)["Failed"] == ("True", "AccessDenied")
    assert o.reasons(made) == ["AccessDenied"]


def test_restart_tells_once_where_the_next_attempt_goes_on() -> None:
    made = o.plan(o.training(), children_=(o.build_child(is_failed=True),), pods=(o.failed(0, 81), o.failed(1, 80)))
    assert made.status.message.endswith("Attempt 1 goes on from the newest checkpoint.")
    assert made.status.message.count("newest checkpoint") == 1


def test_restart_before_the_first_step_speaks_of_no_checkpoint() -> None:
    made = o.plan(o.begun(), children_=(o.build_child(is_failed=True),), pods=(o.failed(0, 81), o.failed(1, 80)))
    assert made.status.message.endswith("Attempt 1 follows.")
    assert "checkpoint" not in made.status.message


def test_restarts_are_counted_up_to_the_limit() -> None:
    job = o.training(recovery={"maxRestarts": 1})
    ended = (o.failed(0, 81), o.failed(1, 80))
    first = o.plan(job, children_=(o.build_child(is_failed=True),), pods=ended)
    again = (o.failed(0, 81, attempt=1), o.failed(1, 80, attempt=1))
    second = o.plan(o.carried(job, first), children_=(o.build_child(1, is_failed=True),), pods=again)
    assert (second.status.phase, second.status.reason) == ("Failed", "MaxRestartsExceeded")
    assert second.status.message.endswith("It is not started again, for spec.recovery.maxRestarts allows 1 restart.")
    assert "resumes" not in second.status.message
    assert [record.reason for record in second.status.attempts] == ["Hung", "Hung"]


def test_disruptions_are_not_counted_as_restarts() -> None:
    job = o.training(recovery={"maxRestarts": 0})
    pods = (o.failed(0, 80), o.failed(1, 143, disruption="EvictionByEvictionAPI"))
    made = o.plan(job, children_=(o.build_child(is_failed=True),), pods=pods)
    assert (made.start_attempt, made.status.restarts) == (1, 0)
    assert made.status.attempts[0].reason == "Evicted"


def test_quick_failures_in_a_row_are_started_again_at_growing_intervals() -> None:
    job, waits = o.training(), []
    for attempt in range(4):
        pods = (o.failed(0, 110, attempt), o.failed(1, 80, attempt))
        made = o.plan(job, children_=(o.build_child(attempt, is_failed=True),), pods=pods)
        waits.append(0.0 if made.start_attempt is not None else made.requeue_after_seconds)
        job = o.carried(job, made)
    assert waits == [0.0, 10.0, 20.0, 40.0]


def test_long_attempts_are_followed_at_once() -> None:
    job = o.training()
    for attempt in range(3):
        pods = (o.failed(0, 110, attempt), o.failed(1, 80, attempt))
        child = o.build_child(attempt, is_failed=True)
        made = o.plan(job, children_=(child,), pods=pods, now=o.after(200.0 * (attempt + 1)))
        assert made.start_attempt == attempt + 1
        job = o.carried(job, made)


def test_next_attempt_waits_for_pods_that_still_save() -> None:
    job = o.training()
    gone = o.build_pod(1, deletion_deadline=o.after(120))
    made = o.plan(job, pods=(o.build_pod(0, deletion_deadline=o.after(120)), gone))  # somebody deleted the Job
    assert made.start_attempt is None
    assert made.requeue_after_seconds == pytest.approx(125.5)


def test_pod_on_a_dead_node_does_not_hold_the_next_attempt() -> None:
    job = o.training()
    lost = o.build_pod(1, is_node_lost=True, deletion_deadline=o.after(120))
    made = o.plan(job, children_=(o.build_child(is_failed=True),), pods=(o.failed(0, 80), lost))
    assert made.start_attempt == 1
    assert made.status.attempts[0].reason == "NodeLost"


def test_pod_that_was_sent_to_a_dead_node_does_not_hold_the_group() -> None:
    sent = o.pending(1, deletion_deadline=o.after(120), disruption="DeletionByTaintManager")
    made = o.plan(o.training(), children_=(o.build_child(),), pods=(o.build_pod(0), sent))
    assert [child.name for child in made.delete_children] == ["digits-0"]
    assert (made.status.attempt, made.status.attempts[0].reason) == (1, "NodeLost")


def test_silent_node_is_named() -> None:
    made = o.plan(o.training(), children_=(o.build_child(),), pods=(o.build_pod(0), o.build_pod(1, is_node_lost=True)))
    assert made.status.reason == "NodeNotReady"
    assert "n2" in made.status.message


def test_pods_of_an_overdue_deletion_count_as_lost() -> None:
    job = o.training()
    stuck = o.build_pod(1, deletion_deadline=o.NOW)
    made = o.plan(job, children_=(o.build_child(),), pods=(o.build_pod(0), stuck), now=o.after(60))
    assert [child.name for child in made.delete_children] == ["digits-0"]
    assert made.start_attempt is None  # rank 0 saves first
    assert made.status.attempt == 1
