"""What the end of an attempt is told as."""

import dataclasses

OUTLOOK = "The group resumes from its newest checkpoint."
"""What most messages end with, as those of `imagetrain_api.exit_codes` do."""

# Conditions that this operator sets on pods: spec.recovery.forceDeleteAfterSeconds, and notices of nodes.
NODE_UNREACHABLE = "NodeUnreachable"
NODE_RECLAIMED = "NodeReclaimed"

DISRUPTIONS = frozenset(
    {
        "Evicted",
        "NodeLost",
        "NodeReclaimed",
        "NodeRestarted",
        "NodeShutdown",
        "PodDeleted",
        "Preempted",
        "PreemptedByScheduler",
        "Suspended",
    }
)
"""Reasons for which the cluster or a person is to blame, and not the job."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an attempt ended.

    Attributes:
        reason: CamelCase word.
        message: what it means, where it was, and what to do.
        rank: of the worker to blame; None where no single one is.
        exit_code: of that worker's container.
        is_permanent: whether another attempt must end likewise.
        is_disruption: whether the cluster or a person took the worker away; that is not counted as a restart.
    """

    reason: str
    message: str
    rank: int | None
    exit_code: int | None = None
    is_permanent: bool = False
    is_disruption: bool = False


def without_outlook(message: str) -> str:
    """Return the message of a failure without what it says of the next attempt."""
    return message.replace(f" {OUTLOOK}", "")
