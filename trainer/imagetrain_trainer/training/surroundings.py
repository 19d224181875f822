"""What the training loop is given: its place among its peers, and what it reads, writes and tells."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from imagetrain_trainer.data import reader
from imagetrain_trainer.storage import store as storage
from imagetrain_trainer.training import events, reporter, run_saves, step_plan


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """This worker among its peers.

    Attributes:
        strategy: the joined group.
        rank: 0 is the chief.
        workers: size of the group.
    """

    strategy: tf.distribute.Strategy
    rank: int
    workers: int

    @property
    def is_chief(self) -> bool:
        """Whether this worker saves and publishes."""
        return self.rank == 0

    @property
    def replicas(self) -> range:
        """Ranks of this worker's replicas among all replicas."""
        local = self.strategy.num_replicas_in_sync // self.workers
        return range(self.rank * local, (self.rank + 1) * local)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the loop talks to.

    Attributes:
        train, validation: the splits.
        places: where checkpoints go.
        report: shares the progress.
        run_store: where the run keeps which steps it leaves out; None: nowhere.
        plan: which steps this generation leaves out, or runs one by one.
        event_log: TensorBoard events; the chief's alone.
        is_stopping: tells whether this worker was asked to stop.
    """

    train: reader.DatasetReader
    validation: reader.DatasetReader
    places: run_saves.Places
    report: reporter.Reporter
    event_log: events.EventLog | None
    is_stopping: Callable[[], bool]
    run_store: storage.ObjectStore | None = None
    plan: step_plan.StepPlan = dataclasses.field(default_factory=step_plan.StepPlan)
