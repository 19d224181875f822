"""What the end of an attempt has cost: from its newest step to the next attempt's first step beyond it."""

import observations as o
from imagetrain_operator import observed
from imagetrain_operator.plan.draft import Plan

FAILED = (o.failed(0, 81), o.failed(1, 80))


def follow(job: observed.TrainingJob, attempt: int, step: int, seconds: float, phase: str = "training") -> Plan:
    """Decide on a running group whose chief has just told a step."""
    now = o.after(seconds)
    report = o.report(phase, step=step, checkpointStep=step // 10 * 10, updatedAt=now.timestamp())
    pods = (o.build_pod(0, attempt), o.build_pod(1, attempt))
    return o.plan(job, children_=(o.build_child(attempt),), pods=pods, progress_=report, now=now)


def end(job: observed.TrainingJob, attempt: int, seconds: float) -> observed.TrainingJob:
    """Return the job after its group has failed."""
    pods = (o.failed(0, 81, attempt), o.failed(1, 80, attempt))
    child = o.build_child(attempt, is_failed=True)
    return o.carried(job, o.plan(job, children_=(child,), pods=pods, now=o.after(seconds)))


def ended_at_step_25() -> observed.TrainingJob:
    job = o.carried(o.training(), follow(o.training(), 0, 25, 100))
    return end(o.carried(job, follow(job, 0, 25, 110)), 0, 130)  # its last step was told at 100


def test_lost_time_runs_from_the_newest_step_to_the_first_one_beyond_it() -> None:
    job = ended_at_step_25()
    (record,) = job.status.attempts
    assert (record.step, record.lost_since, record.lost_seconds) == (25, "2026-03-01T12:01:40Z", None)
    job = o.carried(job, follow(job, 1, 20, 150))
    (record,) = job.status.attempts
    assert (record.resumed_step, record.lost_seconds) == (20, None)
    made = follow(job, 1, 27, 160)
    (record,) = made.status.attempts
    assert (record.resumed_step, record.lost_seconds) == (20, 60.0)
    assert [(event.kind, event.reason, event.message) for event in made.events] == [
        (
            "Warning",
            "Recovered",
            "Attempt 0 ended at step 25 (Hung, rank 0); attempt 1 went on from step 20, 60 s lost.",
        )
    ]
    later = follow(o.carried(job, made), 1, 40, 170)
    assert later.status.attempts == made.status.attempts
    assert later.events == ()


def test_time_until_the_next_failure_is_lost_once() -> None:
    job = ended_at_step_25()
    job = end(o.carried(job, follow(job, 1, 22, 150)), 1, 180)
    assert [record.lost_seconds for record in job.status.attempts] == [80.0, None]
    made = follow(job, 2, 24, 200)  # beyond the second attempt, and not yet beyond the first
    assert made.status.attempts[-1].lost_seconds is None
    made = follow(o.carried(job, made), 2, 26, 210)
    assert [record.lost_seconds for record in made.status.attempts] == [80.0, 30.0]


def test_attempt_without_a_step_has_lost_all_of_its_time() -> None:
    job = end(o.begun(), 0, 30)
    made = follow(job, 1, 1, 50)
    (record,) = made.status.attempts
    assert (record.step, record.resumed_step, record.lost_seconds) == (None, 0, 50.0)
    assert made.events[0].message == (
        "Attempt 0 ended before its first step (Hung, rank 0); attempt 1 went on from the start, 50 s lost."
    )


def test_run_that_was_over_before_a_further_step_was_told_has_caught_up() -> None:
    job = ended_at_step_25()
    publishing = follow(job, 1, 25, 140, "publishing")
    assert publishing.status.attempts[0].lost_seconds == 40.0
    pods = (o.succeeded(0, 1), o.succeeded(1, 1))
    made = o.plan(job, children_=(o.build_child(1),), pods=pods, now=o.after(145))
    assert made.status.attempts[0].lost_seconds == 45.0
    assert o.reasons(made) == ["Recovered", "Completed"]
    # Nobody was told of the checkpoint: the chief was out of the operator's reach.
    assert made.status.attempts[0].resumed_step is None
    assert made.events[0].message == "Attempt 0 ended at step 25 (Hung, rank 0); attempt 1 went on, 45 s lost."


def test_suspension_loses_no_time() -> None:
    job = o.carried(o.build_job(suspend=True), follow(o.training(), 0, 25, 100))
    made = o.plan(job, now=o.after(130))
    assert made.status.attempts[0].lost_since is None
    resumed = o.carried(o.build_job(), o.plan(o.carried(o.build_job(), made), now=o.after(900)))
    made = follow(resumed, 1, 30, 950)
    assert made.status.attempts[0].lost_seconds is None
    assert "Recovered" not in o.reasons(made)


def test_report_of_a_wrong_clock_does_no_harm() -> None:
    job, now = ended_at_step_25(), o.after(160)
    for told in (0.0, o.after(9000).timestamp(), 1e300):
        report = o.report("training", step=30, updatedAt=told)
        pods = (o.build_pod(0, 1), o.build_pod(1, 1))
        made = o.plan(job, children_=(o.build_child(1),), pods=pods, progress_=report, now=now)
        assert made.status.attempts[0].lost_seconds == 60.0
