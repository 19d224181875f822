"""Notices that a node is about to be taken away: how they are read, and which pods are asked to save in time."""

import datetime as dt
from collections.abc import Set as AbstractSet

from imagetrain_operator import observed
from imagetrain_operator.plan import causes, group
from imagetrain_operator.plan.draft import Draft, PlannedEvent, PodDeletion

EVENT = "NodeReclaimed"
_EFFECTS = ("NoSchedule", "NoExecute")  # PreferNoSchedule is a wish: such a node may stay for long


def read_notice(
    raw: observed.RawObject, keys: AbstractSet[str], known: observed.NodeNotice | None, now: dt.datetime
) -> observed.NodeNotice | None:
    """Return what a node's taints and its deletion say; None where it stays.

    Args:
        raw: the node.
        keys: the taints' keys that are notices.
        known: what was made of an earlier version of it; as long as that holds, it stays as it is.
        now: taken where no time is given, or a later one, as by a clock that is ahead.
    """
    given = {
        taint["key"]: taint.get("timeAdded")
        for taint in raw["spec"].get("taints") or ()
        if taint["key"] in keys and taint["effect"] in _EFFECTS
    }
    if deleted_at := raw["metadata"].get("deletionTimestamp"):
        given[""] = deleted_at
    if known is not None and known.taint in given:
        return known
    if not given:
        return None
    taint, time = next(iter(given.items()))
    since = min(dt.datetime.fromisoformat(time), now) if time else now
    return observed.NodeNotice(node=raw["metadata"]["name"], taint=taint, since=since)


def plan_deletions(draft: Draft) -> None:
    """Delete each pod of the job, of any attempt, that runs where it cannot stay, with its grace period.

    Its SIGTERM makes the whole group save. A pod that was placed after the notice tolerates the taint: its successor
    might be placed there again, and so on.
    """
    notices = {notice.node: notice for notice in draft.seen.node_notices}
    for pod in group.unfinished(draft.seen.pods, draft.now):
        notice = notices.get(pod.node)
        if notice is None or pod.deletion_deadline is not None:
            continue
        if pod.placed_at is None or pod.placed_at > notice.since:
            continue
        what = f"{pod.node} is about to be taken away ({notice.cause})."
        message = f"The pod {pod.name} of worker {pod.rank} is deleted, and the group saves first: node {what}"
        draft.delete_pods.append(
            PodDeletion(
                pod=pod,
                reason=causes.NODE_RECLAIMED,
                why=f"Node {what}",
                by_force=False,
                event=PlannedEvent(kind="Warning", reason=EVENT, message=message),
            )
        )
