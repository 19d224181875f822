"""What must be told of each kind of fault, on a local run and on a cluster."""

import dataclasses
from collections.abc import Mapping, Sequence

from imagetrain_chaos import plan, records

MOST_LOST_SECONDS = 240.0
"""More no failure may cost, whatever machine this is."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the job tells of a kind of fault.

    Attributes:
        in_place: reasons that a record of `status.recoveries` may give.
        as_attempt: reasons that one of `status.attempts` may give.
        is_certain: whether there must be a record: some faults are over before anybody notices.
        names_rank: whether the first record must name the rank that was harmed.
    """

    in_place: frozenset[str] = frozenset()
    as_attempt: frozenset[str] = frozenset()
    is_certain: bool = True
    names_rank: bool = True

    @property
    def must_be_told(self) -> bool:
        """Whether there must be a record."""
        return self.is_certain and bool(self.in_place or self.as_attempt)

    def find_wrong(self, planned: plan.Fault, found: Sequence[records.Record]) -> list[str]:
        """Return what is wrong with the records that a fault has led to, one line each."""
        if not found:
            return [f"{planned}: no record of it"] if self.must_be_told else []
        wrong = [
            f"{planned}: told as {record}"
            for record in found
            if record.reason not in (self.in_place if record.is_in_place else self.as_attempt) or not record.message
        ]
        # An attempt that was lost before its first step has gone on from nowhere.
        wrong += [f"{planned}: its cost is not told in {record}" for record in found[:-1] if not is_cost_told(record)]
        if not is_cost_told(found[-1]) or found[-1].resumed_step is None:
            wrong.append(f"{planned}: its cost is not told in {found[-1]}")
        if self.names_rank and found[0].rank != planned.rank:
            wrong.append(f"{planned}: another rank is named in {found[0]}")
        return wrong


def is_cost_told(record: records.Record) -> bool:
    """Tell whether a record says how far the job was, and what the failure cost."""
    if record.step is None or not 0 < record.lost_seconds < MOST_LOST_SECONDS:
        return False
    # Who is asked to stop saves a later step than it last told of.
    return not record.is_in_place or (record.resumed_step is not None and record.resumed_step <= record.step)


_SILENT = frozenset({"Frozen", "Lost", "PeerLost"})
_KILLED_NODE = frozenset({"NodeLost", "NodeRestarted"})

NOTHING = Told()
"""Of kinds that the tables do not have: they cost no recovery."""

ANYWHERE: Mapping[str, Told] = {
    "kill_training": Told(in_place=frozenset({"Killed"})),
    "freeze_training": Told(in_place=frozenset({"Frozen"})),
    "block": Told(in_place=frozenset({"Hung"})),
    # Close to its limit a process may be too slow for its step deadline before the kernel kills it.
    "out_of_memory": Told(in_place=frozenset({"OutOfMemory", "Hung"})),
    "freeze_supervisor": Told(in_place=_SILENT, is_certain=False),
}

ON_LOCAL_RUN: Mapping[str, Told] = {
    **ANYWHERE,
    "kill_saving": Told(in_place=frozenset({"Killed"})),
    "kill_supervisor": Told(in_place=frozenset({"Lost", "PeerLost"})),
    "partition": Told(in_place=_SILENT, is_certain=False, names_rank=False),
    "disk_full": Told(in_place=frozenset({"DiskFull"}), is_certain=False, names_rank=False),
}

ON_CLUSTER: Mapping[str, Told] = {
    **ANYWHERE,
    "cut_node": Told(in_place=_SILENT, as_attempt=frozenset({"NodeLost"}), is_certain=False, names_rank=False),
    # The test cluster gives a node up after 12 s without a renewed lease, which no API server could take meanwhile.
    "api_outage": Told(as_attempt=frozenset({"NodeLost"}), is_certain=False, names_rank=False),
    "kill_supervisor": Told(as_attempt=frozenset({"Killed"})),
    "delete_pod": Told(as_attempt=frozenset({"PodDeleted"})),
    "evict_pod": Told(as_attempt=frozenset({"Evicted"})),
    "drain_node": Told(as_attempt=frozenset({"Evicted"})),
    "reclaim_node": Told(as_attempt=frozenset({"NodeReclaimed"})),
    "restart_node": Told(in_place=_SILENT, as_attempt=_KILLED_NODE, names_rank=False),
    "kill_node": Told(in_place=_SILENT, as_attempt=_KILLED_NODE, names_rank=False),
}


def find_all_wrong(
    table: Mapping[str, Told], done: Sequence[tuple[plan.Fault, int]], found: Sequence[records.Record]
) -> list[str]:
    """Return what is wrong with all that was told, one line each.

    Args:
        table: of the kinds.
        done: each fault, and how many records there were before it.
        found: all records.
    """
    starts = [known for _, known in done]
    wrong = [f"nothing was done, and there is {record}" for record in found[: min(starts, default=len(found))]]
    for (planned, known), following in zip(done, [*starts[1:], len(found)], strict=True):
        wrong += table.get(planned.kind, NOTHING).find_wrong(planned, found[known:following])
    return wrong
