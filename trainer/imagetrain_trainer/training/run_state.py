"""What a run knows beside its variables: position, policies, history, and the figures of the running epoch. Pure."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from imagetrain_trainer.training import policies


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EpochFigures:
    """Sums over the steps of the running epoch."""

    loss_sum: float = 0.0
    correct: int = 0
    images: int = 0
    seconds: float = 0.0
    stall_seconds: float = 0.0

    @property
    def loss(self) -> float:
        """Mean training loss so far; 0 before the first step."""
        return self.loss_sum / max(1, self.images)

    @property
    def accuracy(self) -> float:
        """Training top-1 so far; 0 before the first step."""
        return self.correct / max(1, self.images)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """The host side of a checkpoint.

    Attributes:
        step: global steps finished.
        generation: starts of the run's worker group so far.
        decided: state of the learning-rate and stopping rules.
        epoch: figures of the running epoch.
        history: one JSON object a validated epoch.
        confusion: newest validation confusion matrix, rows are labels.
        skipped_steps: steps, from 1, that were left out.
        seconds: wall time of all starts together, up to the newest save.
        group_sizes: (steps finished, workers) of each change of the group's size, the first start included.
        timeline: what that time went to (`timeline.Recorder.snapshot`), as of the newest save; empty: not known.
    """

    step: int = 0
    generation: int = 1
    decided: policies.PolicyState = dataclasses.field(default_factory=policies.PolicyState)
    epoch: EpochFigures = dataclasses.field(default_factory=EpochFigures)
    history: tuple[dict[str, Any], ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    skipped_steps: tuple[int, ...] = ()
    seconds: float = 0.0
    group_sizes: tuple[tuple[int, int], ...] = ()
    timeline: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def with_workers(self, workers: int) -> "RunState":
        """Return the state with the size of the group that goes on from here."""
        sizes = tuple(size for size in self.group_sizes if size[0] < self.step)
        if not sizes or sizes[-1][1] != workers:
            sizes = (*sizes, (self.step, workers))
        return dataclasses.replace(self, group_sizes=sizes)

    def as_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return dataclasses.asdict(self)


def from_json(document: dict[str, Any]) -> RunState:
    """Return the state that `as_json` made."""
    return RunState(
        step=document["step"],
        generation=document["generation"],
        decided=policies.PolicyState(**document["decided"]),
        epoch=EpochFigures(**document["epoch"]),
        history=tuple(document["history"]),
        confusion=tuple(tuple(row) for row in document["confusion"]),
        skipped_steps=tuple(document.get("skipped_steps", ())),
        seconds=document.get("seconds", 0.0),  # checkpoints of version 1 have none
        group_sizes=tuple((int(step), int(workers)) for step, workers in document.get("group_sizes", ())),
        timeline=document.get("timeline", {}),
    )
