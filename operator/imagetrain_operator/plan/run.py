"""The steps of a job on its way: begin, start an attempt, wait, describe, restart, suspend, resume."""

import dataclasses

from imagetrain_api import names, progress, recoveries
from imagetrain_api.status import JobStatus
from imagetrain_operator import observed
from imagetrain_operator.plan import (
    attempts,
    causes,
    children,
    conditions,
    elastic,
    end,
    figures,
    group,
    recovery,
    waiting,
)
from imagetrain_operator.plan.draft import Draft

# Room, quota and images may come a moment after the pods; before that their absence is nothing to tell.
_PATIENCE_SECONDS = 2.0
_MAX_RANKS_NAMED = 8  # in a message
_QUESTION_SECONDS = 5.0  # then events are read, where neither Job nor pods tell a reason


def begin(draft: Draft) -> None:
    """Start the first attempt."""
    draft.change(run_id=children.run_id(draft.seen.job), start_time=_begun_at(draft))
    if conditions.is_true(draft.status, "Suspended"):
        draft.set_condition("Suspended", conditions.FALSE, "Resumed", "The job is no longer suspended.")
    _start(draft, 0)
    workers = draft.spec.workers
    draft.announce(
        "Normal", "Started", f"Starting {workers} worker{'s' if workers > 1 else ''} for the run {draft.status.run_id}."
    )


def take_up(draft: Draft) -> None:
    """Go on with the first attempt where its Job exists and no status tells of it yet."""
    if draft.status.attempt is None and _first_child(draft) is not None:
        begin(draft)
        begun = dataclasses.replace(draft.seen.job, status=draft.status)
        draft.seen = dataclasses.replace(draft.seen, job=begun)


def _first_child(draft: Draft) -> observed.ChildJob | None:
    return next((child for child in draft.seen.child_jobs if child.attempt == 0 and not child.is_deleting), None)


def _begun_at(draft: Draft) -> str:
    """Return when the first attempt was begun: where its Job exists, that tells."""
    child = _first_child(draft)
    return conditions.format_time(draft.now if child is None else child.created_at)


def resume(draft: Draft) -> None:
    """Go on after a suspension, with a new attempt and a new deadline."""
    attempt = draft.status.attempt
    assert attempt is not None
    attempts.record(draft, "Suspended", "The job was suspended.", None)
    for child in draft.seen.child_jobs:
        draft.delete(child)
    draft.change(start_time=conditions.format_time(draft.now), completion_time=None)
    draft.set_condition("Suspended", conditions.FALSE, "Resumed", "The job goes on from its newest checkpoint.")
    _start(draft, attempt + 1)
    draft.announce("Normal", "Resumed", f"Going on with attempt {attempt + 1} from the newest checkpoint.")


def restart(draft: Draft, failure: causes.Failure) -> None:
    """Start the next attempt after one has ended, unless there were too many."""
    attempt = draft.status.attempt
    assert attempt is not None
    restarts = draft.status.restarts + (0 if failure.is_disruption else 1)
    limit = draft.spec.recovery.max_restarts
    cause = causes.without_outlook(failure.message)
    if restarts > limit:
        message = f"{cause} {_describe_limit(limit)}"
        end.fail(draft, "MaxRestartsExceeded", message, keep_pods=True, failure=failure)
        return
    attempts.record(draft, failure.reason, failure.message, failure)
    for child in draft.seen.child_jobs:
        draft.delete(child)
    draft.change(restarts=restarts)
    draft.announce("Warning", failure.reason, f"Attempt {attempt} ended: {failure.message}")
    outlook = "goes on from the newest checkpoint" if draft.status.progress else "follows"
    _start(draft, attempt + 1, failure.reason, f"{cause} Attempt {attempt + 1} {outlook}.")


def _start(draft: Draft, attempt: int, reason: str = "StartingWorkers", message: str = "") -> None:
    workers = draft.spec.workers
    message = message or f"Waiting for {workers} worker{'s' if workers > 1 else ''}."
    started_at = conditions.format_time(draft.now) if attempt else _begun_at(draft)
    draft.change(attempt=attempt, attempt_start_time=started_at)
    draft.set_ready(0, workers)
    draft.set_condition("WorkersReady", conditions.FALSE, reason, message)
    draft.set_condition("Training", conditions.FALSE, reason, message)
    draft.set_state("Starting" if attempt == 0 or reason == "StartingWorkers" else "Restarting", reason, message)
    start_when_possible(draft)


def start_when_possible(draft: Draft) -> None:
    """Ask for the pods of the newest attempt, once nothing of an earlier one can disturb it and no delay is due."""
    attempt = draft.status.attempt
    assert attempt is not None
    if busy := group.unfinished(draft.seen.pods, draft.now):
        draft.look_again_in(group.seconds_until_lost(busy, draft.now) or 60.0)
        return
    for child in draft.seen.child_jobs:
        if child.attempt != attempt:
            draft.delete(child)
    if (delay := attempts.delay_before_next(draft.status, draft.now)) > 0:
        draft.look_again_in(delay)
        return
    if draft.seen.denial is not None:
        _describe_denial(draft)
        if conditions.is_terminal(draft.status):
            return
    draft.start_attempt = attempt
    draft.look_again_in(_PATIENCE_SECONDS)  # a Job that may make no pods tells nothing by itself


def _describe_denial(draft: Draft) -> None:
    """Say why the Job of this attempt could not be created."""
    cause = waiting.explain_waiting(draft.seen)
    if not has_waited_too_long(draft, cause):
        describe_waiting(draft, cause)


def is_past_deadline(draft: Draft) -> bool:
    """Tell whether spec.activeDeadlineSeconds is over; look again when it will be."""
    limit, started_at = draft.spec.active_deadline_seconds, conditions.parse_time(draft.status.start_time)
    if limit is None or started_at is None:
        return False
    left = limit - (draft.now - started_at).total_seconds()
    if left > 0:
        draft.look_again_in(left)
    return left <= 0


def has_waited_too_long(draft: Draft, cause: waiting.Waiting | None) -> bool:
    """End a job whose workers do not become ready in time, and tell whether that was so."""
    started_at = conditions.parse_time(draft.status.attempt_start_time)
    if started_at is None:
        return False
    waited = (draft.now - started_at).total_seconds()
    limits = []
    if draft.spec.ready_deadline_seconds is not None:
        limits.append((draft.spec.ready_deadline_seconds, "spec.readyDeadlineSeconds"))
    if cause is not None and cause.is_stuck:
        limits.append((draft.spec.recovery.start_timeout_seconds, "spec.recovery.startTimeoutSeconds"))
    if draft.seen.denial is not None and draft.seen.denial.is_final:
        limits.append((0, ""))
    for seconds, setting in sorted(limits):
        if waited >= seconds:
            reason = cause.reason if cause and cause.is_stuck else "NotReadyInTime"
            message = cause.message if cause else "Not all workers became ready."
            suffix = f" The job has waited for {seconds} s ({setting})." if setting else ""
            end.fail(draft, reason, message + suffix, keep_pods=False)
            return True
        draft.look_again_in(seconds - waited)
    return False


def describe_waiting(draft: Draft, cause: waiting.Waiting | None) -> None:
    """Say what the workers wait for, and have it looked for where pods do not tell."""
    started_at = conditions.parse_time(draft.status.attempt_start_time)
    waited = (draft.now - started_at).total_seconds() if started_at else _PATIENCE_SECONDS
    if waited >= _QUESTION_SECONDS:
        draft.investigate = cause is None or cause.reason in (
            "StartingWorkers",
            "VolumeNotMounted",
            "QuotaExceeded",
            "PodsRefused",
        )
        draft.look_again_in(5.0)
    else:
        draft.look_again_in((_PATIENCE_SECONDS if waited < _PATIENCE_SECONDS else _QUESTION_SECONDS) - waited)
    if cause is None:
        return
    is_problem = cause.reason != "StartingWorkers"
    if is_problem and waited < _PATIENCE_SECONDS:
        return
    phase = "Pending" if is_problem else draft.status.phase
    if not is_problem and phase not in ("Restarting", "Starting"):
        phase = "Starting"
    if is_problem or draft.status.phase == "Pending":
        draft.set_condition("WorkersReady", conditions.FALSE, cause.reason, cause.message)
        draft.set_state(phase, cause.reason, cause.message)
    if is_problem:
        draft.announce_state("Warning")


def describe_running(draft: Draft, current: group.Group) -> None:
    """Describe a group whose workers are all ready, by what its chief tells."""
    shrunk, chief = elastic.describe_missing(draft, current), current.chief
    watch_chief(draft, current)
    report = draft.seen.progress
    if report is not None:
        _record_report(draft, report)
        if _has_recovered_too_often(draft, report):
            return
    if report is None and recovery.is_in_place(draft):
        return  # an operator that has just started will hear of it
    phase = _phase(draft.status, report.phase if report else "", chief)
    lost = recoveries.running(report.recoveries) if report is not None and report.phase == "starting" else None
    if lost is not None:
        recovery.describe_running(draft, lost)
    elif phase == "Starting":
        message = f"{shrunk} The first step follows." if shrunk else "All workers are ready; the first step follows."
        draft.set_state(phase, "WorkersReady", message)
    elif phase == "Publishing":
        draft.set_condition("Training", conditions.FALSE, "TrainingCompleted", "Training is over.")
        draft.set_state(phase, "Publishing", "Training is over; the models are measured and published.")
    else:
        draft.set_condition("Training", conditions.TRUE, "Training", "The group is training.")
        size = draft.status.progress.workers if draft.status.progress else None
        is_smaller = bool(shrunk) or (size or 0) not in (0, draft.spec.workers)
        message = elastic.describe_size(draft, shrunk, size or 0)
        draft.set_state(phase, conditions.SHRUNK if is_smaller else "Training", message)
        was_training = draft.seen.job.status.phase == "Training"
        if not was_training and not recovery.is_in_place(draft):  # other events tell of that
            draft.announce("Normal", "Training", draft.status.message)
    if draft.seen.silence:
        _describe_silence(draft)


def _describe_silence(draft: Draft) -> None:
    """Say that the chief is out of the operator's reach: it may be at work all the same."""
    message = (
        f"Worker 0 does not answer the operator: {draft.seen.silence}. It goes on by itself, but how far it is, is not "
        f"known here. Let the operator reach port {names.STATUS_PORT} of the workers (NetworkPolicy, service mesh)."
    )
    draft.set_state(draft.status.phase, "ChiefUnreachable", message)
    draft.announce_state("Warning")


def watch_chief(draft: Draft, current: group.Group) -> None:
    """Have the chief asked for its progress, as long as it runs."""
    chief = current.chief
    if chief is not None and not chief.is_finished:
        draft.chief_ip = chief.ip


def _has_recovered_too_often(draft: Draft, report: progress.Progress) -> bool:
    """End a job whose newest recovery was one too many, those in place and of the whole group taken together."""
    limit, before = draft.spec.recovery.max_restarts, draft.seen.job.status.restarts
    if not before < draft.status.restarts > limit or report.phase in ("publishing", "done"):
        return False
    cause = recoveries.describe_cause(recoveries.finished(report.recoveries)[-1])
    message = f"{cause}. {_describe_limit(limit)} Its checkpoints are kept."
    end.fail(draft, "MaxRestartsExceeded", message, keep_pods=False)
    return True


def _describe_limit(limit: int) -> str:
    allowed = f"{limit} restart{'' if limit == 1 else 's'}"
    return f"It is not started again, for spec.recovery.maxRestarts allows {allowed}."


def _record_report(draft: Draft, report: progress.Progress) -> None:
    recovery.record(draft, report.recoveries)
    if report.phase == "starting":
        return
    told, known = figures.build_progress(report), draft.status.progress
    if told.images_per_second is None and known is not None:
        # Between two looks at the clock, and in evaluation, the rate is not known.
        told = dataclasses.replace(told, images_per_second=known.images_per_second)
    is_known = known is not None and known.step == told.step
    step_time = known.step_time if known and is_known else conditions.format_time(draft.now)
    told = dataclasses.replace(told, step_time=step_time)
    attempts.note_progress(draft, report, told)
    elastic.announce_growth(draft, told)
    draft.change(progress=told)


def _phase(status: JobStatus, told: str, chief: observed.Pod | None) -> str:
    if told in ("publishing", "done"):
        return "Publishing"
    if chief is not None and chief.phase == "Succeeded":
        # The others end within the second, and then the job has succeeded.
        return status.phase if status.phase in ("Training", "Publishing") else "Starting"
    if told in ("training", "evaluating", "checkpointing"):
        return "Training"
    is_known = status.phase in ("Training", "Publishing") and conditions.has_group(status)
    return status.phase if is_known and told in ("", "failed") else "Starting"


def describe_silent_node(draft: Draft, current: group.Group) -> None:
    """Say which node does not answer; its pods are given up when Kubernetes evicts them or the group fails."""
    silent = [pod for pod in current.pods if pod.is_node_lost]
    nodes = ", ".join(sorted({pod.node for pod in silent}))
    ranks = ", ".join(str(pod.rank) for pod in silent)
    message = f"Node {nodes} does not answer (worker {ranks}). If it stays silent, the group starts again elsewhere."
    draft.set_condition("WorkersReady", conditions.FALSE, "NodeNotReady", message)
    draft.set_state(draft.status.phase, "NodeNotReady", message)
    draft.announce_state("Warning")
    draft.look_again_in(5.0)


def wait_for_the_others(draft: Draft, failure: causes.Failure, left: tuple[observed.Pod, ...]) -> None:
    """Say that an attempt is ending, and end what the Job controller does not."""
    message = f"{failure.message} Waiting for {_name_ranks(left)} to stop."
    draft.set_ready(sum(1 for pod in left if pod.is_ready), draft.spec.workers)
    draft.set_condition("WorkersReady", conditions.FALSE, failure.reason, message)
    draft.set_condition("Training", conditions.FALSE, failure.reason, message)
    draft.set_state("Restarting", failure.reason, message)
    draft.look_again_in(group.seconds_until_lost(left, draft.now) or 30.0)


def _name_ranks(pods: tuple[observed.Pod, ...]) -> str:
    ranks = sorted(pod.rank for pod in pods)
    shown = ", ".join(map(str, ranks[:_MAX_RANKS_NAMED]))
    more = f" and {len(ranks) - _MAX_RANKS_NAMED} more" if len(ranks) > _MAX_RANKS_NAMED else ""
    return f"worker{'s' if len(ranks) > 1 else ''} {shown}{more}"


def suspend(draft: Draft) -> None:
    """Stop the pods, which save a checkpoint first, and say so when they are gone."""
    for child in draft.seen.child_jobs:
        draft.delete(child)
    busy = group.unfinished(draft.seen.pods, draft.now)
    reason = "SuspendRequested"
    if busy or any(not child.is_deleting for child in draft.seen.child_jobs):
        message = f"Waiting for {_name_ranks(busy)} to save a checkpoint and stop." if busy else "The pods are stopped."
        draft.set_condition("Suspended", conditions.FALSE, "Suspending", message)
        draft.set_state("Suspending", reason, message)
        draft.look_again_in(group.seconds_until_lost(busy, draft.now) or 5.0)
        return
    message = "The job is suspended and holds no resources. Set spec.suspend to false to go on."
    attempts.record(draft, "Suspended", "The job was suspended.", None)
    for kind in ("WorkersReady", "Training"):
        draft.set_condition(kind, conditions.FALSE, "Suspended", message)
    draft.set_ready(0, draft.spec.workers)
    draft.set_condition("Suspended", conditions.TRUE, reason, message)
    draft.set_state("Suspended", reason, message)
    draft.announce_state("Normal")
