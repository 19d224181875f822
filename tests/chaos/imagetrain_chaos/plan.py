"""What happens to a run, and when: from a seed to a list of faults. Pure, so a seed that was printed replays it."""

import dataclasses
import random
from collections.abc import Mapping, Sequence

RANK_WIDE = frozenset(
    {
        "kill_training",
        "kill_saving",
        "kill_supervisor",
        "freeze_training",
        "freeze_supervisor",
        "block",
        "slow",
        "partition",
        "out_of_memory",
    }
)
"""Faults of one rank."""

GROUP_WIDE = frozenset({"dns", "s3_outage", "s3_flaky", "clock_jump", "disk_full"})
"""Faults of all ranks at once."""

POD_WIDE = frozenset({"delete_pod", "evict_pod", "drain_node", "reclaim_node"})
"""Faults of one rank's pod, or of its node, on a cluster."""

CLUSTER_WIDE = frozenset({"restart_node", "kill_node", "cut_node", "kill_operator", "stop_operator", "api_outage"})
"""Faults of a cluster's second node and of what serves all jobs."""

ON_CLUSTER = (
    POD_WIDE
    | CLUSTER_WIDE
    | {"kill_training", "kill_supervisor", "freeze_training", "freeze_supervisor", "block", "slow", "out_of_memory"}
    | {"dns", "s3_outage"}
)
"""What can be done to a job on a cluster."""

_OF_A_RANK = RANK_WIDE | POD_WIDE

SECONDS: Mapping[str, tuple[float, float]] = {
    "freeze_supervisor": (2.0, 12.0),
    "slow": (3.0, 10.0),
    "partition": (5.0, 20.0),
    "dns": (5.0, 20.0),
    "s3_outage": (1.0, 10.0),
    "s3_flaky": (5.0, 20.0),
    "disk_full": (3.0, 10.0),
    "cut_node": (3.0, 7.0),
    "api_outage": (1.0, 6.0),
}
"""How long a fault lasts, at least and at most; those that are not here are over at once, or end by their detection."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        at_step: global step that the run must have reached.
        kind: a name of the sets above.
        rank: whom it hits; 0 for faults of no rank's own.
        seconds: how long it lasts; 0: it is over at once, or ends by its detection.
    """

    at_step: int
    kind: str
    rank: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return it in words."""
        whom = f" of rank {self.rank}" if self.kind in _OF_A_RANK else ""
        how_long = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"step {self.at_step}: {self.kind}{whom}{how_long}"


def plan_faults(
    seed: int, kinds: Sequence[str], *, workers: int, first_step: int, gap_steps: int, is_shuffled: bool = False
) -> tuple[Fault, ...]:
    """Plan one fault of each of `kinds`, in this order, or shuffled.

    Args:
        seed: equal arguments give equal plans.
        kinds: names of the sets above; one that stands there twice happens twice.
        workers: size of the group.
        first_step: before it nothing happens.
        gap_steps: each fault comes within the first half of a gap of its own.
        is_shuffled: whether the order is drawn too.
    """
    draw = random.Random(seed)
    order = draw.sample(list(kinds), len(kinds)) if is_shuffled else list(kinds)
    return tuple(
        _plan_fault(draw, kind, workers, first_step + index * gap_steps + draw.randrange(max(1, gap_steps // 2)))
        for index, kind in enumerate(order)
    )


def plan_soak(
    seed: int, kinds: Sequence[str], *, workers: int, first_step: int, gap_steps: int, last_step: int
) -> tuple[Fault, ...]:
    """Plan faults at random up to a step: every kind once before any comes again."""
    draw, planned = random.Random(seed), []
    step, waiting = first_step, list[str]()
    while step < last_step:
        waiting = waiting or draw.sample(list(kinds), len(kinds))
        planned.append(_plan_fault(draw, waiting.pop(), workers, step))
        step += draw.randint(gap_steps // 2, gap_steps + gap_steps // 2)
    return tuple(planned)


def _plan_fault(draw: random.Random, kind: str, workers: int, at_step: int) -> Fault:
    rank = draw.randrange(workers)
    least, most = SECONDS.get(kind, (0.0, 0.0))
    seconds = round(draw.uniform(least, most), 1)
    return Fault(at_step=at_step, kind=kind, rank=rank if kind in _OF_A_RANK else 0, seconds=seconds)
