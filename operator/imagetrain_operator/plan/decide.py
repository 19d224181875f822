"""The decision: from what is observed of one job, what must be done and what its status is to say.

Pure: the same observation and time give the same plan. Effects happen in `imagetrain_operator.reconcile`, always in the
order status, deletions, creations, events, so that an operator that dies in between repeats nothing and loses nothing:
an attempt is in the status before its pods are asked for, and the first one is known by its Job.
"""

import datetime as dt

from imagetrain_operator import observed
from imagetrain_operator.plan import (
    causes,
    conditions,
    elastic,
    end,
    group,
    lost_nodes,
    node_notices,
    pod_ends,
    recovery,
    run,
)
from imagetrain_operator.plan.draft import Draft, Plan

# Longer lists of broken rules help nobody.
_MAX_ERRORS_SHOWN = 5


def decide(seen: observed.Observation, now: dt.datetime) -> Plan:
    """Return what is to be done for one job."""
    draft = Draft(seen, now)
    if seen.job.is_deleting:
        return draft.plan()  # owner references take everything away
    lost_nodes.plan_deletions(draft)
    node_notices.plan_deletions(draft)
    if conditions.is_terminal(seen.job.status):
        end.after_the_end(draft)
    elif seen.job.job is None:
        _refuse(draft)
    else:
        draft.accept()
        run.take_up(draft)
        if not _has_ended(draft):
            if seen.job.job.spec.suspend:
                run.suspend(draft)
            else:
                _go_on(draft)
    return draft.plan()


def _refuse(draft: Draft) -> None:
    """Say what is wrong with an invalid manifest; it is looked at again when it changes."""
    errors = draft.seen.job.errors
    shown = " ".join(str(error) for error in errors[:_MAX_ERRORS_SHOWN])
    more = f" And {len(errors) - _MAX_ERRORS_SHOWN} more." if len(errors) > _MAX_ERRORS_SHOWN else ""
    message = f"{shown}{more} Correct the manifest and apply it again."
    draft.set_condition("Accepted", conditions.FALSE, "InvalidSpec", message)
    draft.set_state("Pending", "InvalidSpec", message)
    draft.announce_state("Warning")


def _has_ended(draft: Draft) -> bool:
    """Take note of an attempt that has done its work, whatever else is asked for."""
    current = group.current(draft.seen)
    if current is None or not current.has_succeeded():
        return False
    outcome = pod_ends.read_outcome(current.chief) if current.chief else None
    recovery.record(draft, outcome.recoveries if outcome else ())
    end.succeed(draft, outcome)
    return True


def _go_on(draft: Draft) -> None:
    status = draft.status
    if status.attempt is None:
        run.begin(draft)
        return
    if conditions.is_true(status, "Suspended") or status.phase == "Suspending":
        run.resume(draft)
        return
    if run.is_past_deadline(draft):
        limit = draft.spec.active_deadline_seconds
        message = (
            f"The job ran longer than spec.activeDeadlineSeconds ({limit} s). Its checkpoints are kept: create it "
        )
        end.fail(draft, "DeadlineExceeded", message + "again with a longer deadline.", keep_pods=False)
        return
    current = group.current(draft.seen)
    if current is None:
        run.start_when_possible(draft)
        return
    if current.is_ending(draft.now):
        _handle_failure(draft, current)
        return
    _follow(draft, current)


def _handle_failure(draft: Draft, current: group.Group) -> None:
    failure = current.explain_end()
    if failure is None:  # pods end, and nobody is to blame yet
        failure = causes.Failure(
            reason="PodDeleted",
            message="The pods of the group are gone.",
            rank=None,
            exit_code=None,
            is_permanent=False,
            is_disruption=True,
        )
    if current.chief is not None and (outcome := pod_ends.read_outcome(current.chief)) is not None:
        recovery.record(draft, outcome.recoveries)
    patience = current.seconds_to_leave(draft.now)
    if failure.is_permanent:
        end.fail(draft, failure.reason, failure.message, keep_pods=True, failure=failure)
    elif (busy := current.unfinished(draft.now)) and not current.has_lost_pods(draft.now) and patience != 0:
        run.wait_for_the_others(draft, failure, busy)  # the one to blame may be among them
        if patience is not None:
            draft.look_again_in(patience)
    else:
        run.restart(draft, failure)


def _follow(draft: Draft, current: group.Group) -> None:
    """Describe a group that is on its way."""
    ready = current.count_ready()
    draft.set_ready(ready, current.workers)
    if current.is_elastic and current.can_go_on():
        _follow_elastic(draft, current)
    elif current.has_silent_node():
        run.describe_silent_node(draft, current)
    elif ready < current.workers and not current.has_published():
        cause = elastic.explain_waiting(draft.seen, current)
        if not run.has_waited_too_long(draft, cause):
            run.describe_waiting(draft, cause)
    else:
        run.describe_running(draft, current)


def _follow_elastic(draft: Draft, current: group.Group) -> None:
    """Describe a group that has its chief and enough others."""
    report = draft.seen.progress
    has_begun = conditions.has_group(draft.status) or (report is not None and report.phase != "starting")
    if has_begun or not current.missing():
        run.describe_running(draft, current)
    else:  # the coordinator waits for the others first
        run.watch_chief(draft, current)
        run.describe_waiting(draft, elastic.explain_waiting(draft.seen, current))
