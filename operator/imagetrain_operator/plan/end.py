"""How a job ends, and what is left to do after that. Nothing is ever created for a job that has ended."""

import datetime as dt

from imagetrain_api import progress
from imagetrain_operator import observed
from imagetrain_operator.plan import attempts, causes, conditions, figures, group
from imagetrain_operator.plan.draft import Draft

# For the Job controller to call a Job failed; it does not do so for each failed pod of an elastic group.
_JOB_SECONDS = 10.0


def succeed(draft: Draft, outcome: progress.WorkerOutcome | None) -> None:
    """End the job well, with what the chief told of its models."""
    final = figures.build_final_progress(draft.status.progress, outcome)
    outputs = figures.build_outputs(outcome)
    message = figures.describe_published(outputs, final.accuracy if final and outputs else None)
    workers = draft.spec.workers
    attempts.close_at_the_end(draft)
    draft.change(progress=final, outputs=outputs, completion_time=conditions.format_time(draft.now))
    draft.set_ready(workers, workers)
    draft.set_condition("WorkersReady", conditions.FALSE, "Completed", "The workers have done their work.")
    draft.set_condition("Training", conditions.FALSE, "Completed", "Training is over.")
    if outputs is not None:
        draft.set_condition("Published", conditions.TRUE, "Published", f"The manifest is {outputs.manifest_uri}.")
    draft.set_condition("Succeeded", conditions.TRUE, "Completed", message)
    draft.set_state("Succeeded", "Completed", message)
    draft.announce_state("Normal")
    _remember_time_to_live(draft)


def fail(draft: Draft, reason: str, message: str, *, keep_pods: bool, failure: causes.Failure | None = None) -> None:
    """End the job badly; its pods stay for their logs, or are stopped where they still run."""
    if failure is not None:
        attempts.record(draft, failure.reason, failure.message, failure)
    else:
        attempts.record(draft, reason, message, None)
    draft.change(completion_time=conditions.format_time(draft.now))
    draft.set_ready(0, draft.spec.workers)
    for kind in ("WorkersReady", "Training"):
        draft.set_condition(kind, conditions.FALSE, reason, "The job has failed.")
    draft.set_condition("Failed", conditions.TRUE, reason, message)
    draft.set_state("Failed", reason, message)
    draft.announce_state("Warning")
    if not keep_pods:
        for child in draft.seen.child_jobs:
            draft.delete(child)
    _remember_time_to_live(draft)


def after_the_end(draft: Draft) -> None:
    """Stop what still runs, and delete the job when its time to live is over."""
    draft.status = draft.seen.job.status  # it has said its last word, whatever generation follows
    for child in draft.seen.child_jobs:
        if conditions.is_true(draft.status, "Failed") and not _ends_by_itself(draft, child):
            draft.delete(child)
    _remember_time_to_live(draft)


def _ends_by_itself(draft: Draft, child: observed.ChildJob) -> bool:
    """Tell whether the Job controller stops the pods of a failed job, so that they stay for their logs."""
    if child.is_failed or child.is_complete:
        return True
    if not any(pod.phase == "Failed" for pod in draft.seen.pods if pod.attempt == child.attempt):
        return False
    if draft.seen.job.job is None or not group.is_elastic(draft.seen.job.job.spec):
        return True
    ended_at = conditions.parse_time(draft.status.completion_time)
    left = _JOB_SECONDS - (draft.now - ended_at).total_seconds() if ended_at else 0.0
    if left > 0:
        draft.look_again_in(left)
    return left > 0


def _remember_time_to_live(draft: Draft) -> None:
    job = draft.seen.job.job
    ended_at = conditions.parse_time(draft.status.completion_time)
    if job is None or job.spec.ttl_seconds_after_finished is None or ended_at is None:
        return
    ends_at = ended_at + dt.timedelta(seconds=job.spec.ttl_seconds_after_finished)
    left = (ends_at - draft.now).total_seconds()
    if left > 0:
        draft.look_again_in(left)
    elif conditions.is_terminal(draft.seen.job.status):
        draft.delete_job = True
    else:
        draft.look_again_in(0)  # first the end is written, then the job goes
