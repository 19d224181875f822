"""Chiefs out of the operator's reach: their group is at work, and the job says what is not known and why."""

import observations as o
from imagetrain_operator import observed
from imagetrain_operator.plan.draft import Plan

WHY = "10.1.0.7:8080: no answer within 3 s"


def follow(job: observed.TrainingJob, *, silence: str, step: int | None) -> Plan:
    report = None if step is None else o.report("training", step=step)
    return o.plan(job, children_=(o.build_child(),), pods=o.RUNNING, progress_=report, silence=silence)


def test_group_whose_chief_never_answered_says_so_once() -> None:
    job = o.begun()
    job = o.carried(job, follow(job, silence="", step=None))
    assert (job.status.phase, job.status.reason) == ("Starting", "WorkersReady")
    made = follow(job, silence=WHY, step=None)
    assert (made.status.phase, made.status.reason) == ("Starting", "ChiefUnreachable")
    assert f"Worker 0 does not answer the operator: {WHY}." in made.status.message
    assert [(event.kind, event.reason) for event in made.events] == [("Warning", "ChiefUnreachable")]
    again = follow(o.carried(job, made), silence=WHY, step=None)
    assert (again.status, again.events) == (made.status, ())
    assert made.chief_ip  # it is asked on


def test_training_group_that_falls_silent_keeps_its_figures_and_is_told_as_training_again() -> None:
    job = o.training()
    job = o.carried(job, follow(job, silence="", step=10))
    silent = follow(job, silence=WHY, step=10)
    assert (silent.status.phase, silent.status.reason) == ("Training", "ChiefUnreachable")
    assert silent.status.progress is not None
    assert silent.status.progress.step == 10
    heard = follow(o.carried(job, silent), silence="", step=30)
    assert (heard.status.phase, heard.status.reason) == ("Training", "Training")
    assert heard.status.progress is not None
    assert heard.status.progress.step == 30
    assert heard.events == ()
