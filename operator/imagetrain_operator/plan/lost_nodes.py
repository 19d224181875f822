"""Pods on nodes that do not answer: when the operator deletes them by force, where the job asks for it."""

from imagetrain_operator.plan import causes, group
from imagetrain_operator.plan.draft import Draft, PlannedEvent, PodDeletion

EVENT = "ForceDeleted"


def plan_deletions(draft: Draft) -> None:
    """Delete by force each pod of the job, of any attempt, whose node has not answered for long enough.

    Kubernetes keeps such a pod until its node says that it has ended. It may still run there: a newer generation of the
    group fences whatever it writes.
    """
    job = draft.seen.job.job
    limit = job.spec.recovery.force_delete_after_seconds if job is not None else None
    if limit is None:
        return
    for pod in draft.seen.pods:
        since = group.unreachable_since(pod, draft.now)
        if since is None:
            continue
        left = limit - (draft.now - since).total_seconds()
        if left > 0:
            draft.look_again_in(left)
            continue
        message = (
            f"The pod {pod.name} of worker {pod.rank} is deleted by force: node {pod.node} has not answered for "
            f"{limit} s or longer (spec.recovery.forceDeleteAfterSeconds)."
        )
        draft.delete_pods.append(
            PodDeletion(
                pod=pod,
                reason=causes.NODE_UNREACHABLE,
                why=f"Node {pod.node} does not answer; deleted by force (spec.recovery.forceDeleteAfterSeconds).",
                by_force=True,
                event=PlannedEvent(kind="Warning", reason=EVENT, message=message),
            )
        )
