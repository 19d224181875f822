"""How long the coordinator waits for what. A pure module."""

import dataclasses

from imagetrain_api import worker_config


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Limits of one group; seconds are of a monotonic clock.

    Attributes:
        workers: size of the full group.
        max_restarts: recoveries in place before the group is given up.
        member_timeout_seconds: longest absence of a member that was there before.
        start_timeout_seconds: the same for one that was never seen, and for a process that does not start.
        min_members: fewest members that may go on without the others; None: all are needed.
        elastic_timeout_seconds: how long the others are waited for then.
        skip_poison_batches: whether a step at which the group crashes again and again is left out.
        first_generation: number of the first generation, where earlier attempts have used up some.
        silence_seconds: a supervisor that sent nothing for so long counts as frozen; it reports each half second.
        unreported_seconds: a supervisor whose own loop stood still for so long falls silent.
        quiet_seconds: one that sent nothing for so long may be about to.
        window_seconds: how long after a first failure its cause is looked for.
        dump_seconds: how long the stacks of a hung group may take.
        save_seconds: how long the others may save when a member was asked to stop.
        longest_backoff_seconds: longest wait before a restart after restarts without progress.
    """

    workers: int
    max_restarts: int = 10
    member_timeout_seconds: float = 60.0
    start_timeout_seconds: float = 600.0
    min_members: int | None = None
    elastic_timeout_seconds: float = 60.0
    skip_poison_batches: bool = False
    first_generation: int = 1
    silence_seconds: float = 6.0
    unreported_seconds: float = 10.0
    quiet_seconds: float = 1.5
    window_seconds: float = 1.0
    dump_seconds: float = 3.0
    save_seconds: float = 60.0
    longest_backoff_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers!r}.")
        if not 1 <= self.needed <= self.workers:
            raise ValueError(f"min_members must be from 1 to {self.workers}, got {self.min_members!r}.")

    @property
    def needed(self) -> int:
        """Return how many members a generation needs at least."""
        return self.workers if self.min_members is None else self.min_members


def build_settings(config: worker_config.WorkerConfig, *, first_generation: int = 1) -> Settings:
    """Return the settings of a job's group."""
    recovery = config.job.spec.recovery
    return Settings(
        workers=len(config.endpoints),
        max_restarts=recovery.max_restarts,
        member_timeout_seconds=recovery.member_timeout_seconds,
        start_timeout_seconds=recovery.start_timeout_seconds,
        min_members=recovery.min_workers,
        elastic_timeout_seconds=recovery.elastic_timeout_seconds,
        skip_poison_batches=recovery.skip_poison_batches,
        first_generation=first_generation,
    )
