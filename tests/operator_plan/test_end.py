"""What is left to do once a job has ended."""

from typing import Any

import pytest

import observations as o
from imagetrain_operator import observed


def succeeded_job(**spec: Any) -> observed.TrainingJob:
    job = o.training(**spec)
    return o.carried(job, o.plan(job, children_=(o.build_child(is_complete=True),)))


def test_nothing_is_created_after_the_end() -> None:
    for job in (
        succeeded_job(),
        o.carried(o.training(), o.plan(o.training(), children_=(o.build_child(),), pods=(o.failed(0, 100),))),
    ):
        made = o.plan(job, now=o.after(1e6))
        assert (made.start_attempt, made.status, made.events) == (None, job.status, ())


def test_job_is_deleted_when_its_time_to_live_is_over() -> None:
    job = succeeded_job(ttlSecondsAfterFinished=100)
    assert o.plan(job, now=o.after(40)).requeue_after_seconds == pytest.approx(60)
    assert not o.plan(job, now=o.after(40)).delete_job
    assert o.plan(job, now=o.after(101)).delete_job


def test_end_is_written_before_the_job_is_deleted() -> None:
    job = o.training(ttlSecondsAfterFinished=0)
    made = o.plan(job, children_=(o.build_child(is_complete=True),))
    assert not made.delete_job
    assert o.plan(o.carried(job, made), children_=(o.build_child(is_complete=True),), now=o.after(1)).delete_job
