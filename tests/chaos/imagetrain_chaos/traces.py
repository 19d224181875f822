"""What the ranks of each generation were trained on, as traced_model.py wrote it, and what came of it in the end.

A step counts as trained in the newest generation that did it: one that goes on from an older checkpoint does the steps
behind it again, and what the generation before had made of them is gone. No TensorFlow here.
"""

import collections
import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping

FOLDER = "trace"  # in the gate's folder
_NAME = re.compile(r"generation-(\d+)-rank-(\d+)\.jsonl")

Steps = Mapping[int, tuple[int, ...]]
"""The images of each step."""


def build_name(generation: int, rank: int) -> str:
    """Return the file name of a rank's trace."""
    return f"generation-{generation}-rank-{rank}.jsonl"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The trace of a whole run.

    Attributes:
        ranks: for each generation, the steps of each rank.
    """

    ranks: Mapping[int, Mapping[int, Steps]]

    def sizes(self) -> list[int]:
        """Return how many ranks each generation trained with."""
        return [len(self.ranks[generation]) for generation in sorted(self.ranks)]

    def find_faults(self) -> list[str]:
        """Return one line for each thing in a generation that is not as it must be: gaps, and steps without a rank."""
        faults, reached = [], 0
        for generation in sorted(self.ranks):
            done = self._whole_steps(generation)
            if not done:
                continue
            if done != list(range(done[0], done[-1] + 1)):
                faults.append(f"generation {generation} left steps out between {done[0]} and {done[-1]}")
            if done[0] > reached:
                faults.append(f"generation {generation} began with step {done[0]}, and only {reached} were done")
            reached = done[-1] + 1
        return faults

    def trained(self) -> dict[int, tuple[int, ...]]:
        """Return the images of each step in the order of the global batch, of the generation that counts."""
        found: dict[int, tuple[int, ...]] = {}
        for generation in sorted(self.ranks):
            ranks = self.ranks[generation]
            for step in self._whole_steps(generation):
                found[step] = tuple(image for rank in sorted(ranks) for image in ranks[rank][step])
        return found

    def _whole_steps(self, generation: int) -> list[int]:
        """Return the steps that every rank of a generation did; the last may have been cut off on some."""
        ranks = self.ranks[generation].values()
        return sorted(set.intersection(*(set(steps) for steps in ranks)))


def read(gate_folder: pathlib.Path) -> Trace:
    """Read what the run wrote; a line that a killed process did not finish is not there."""
    ranks: dict[int, dict[int, Steps]] = collections.defaultdict(dict)
    for path in sorted((gate_folder / FOLDER).iterdir()):
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise ValueError(f"{path} must be named as build_name does.")
        whole, _, _ = path.read_text(encoding="ascii").rpartition("\n")
        lines = [json.loads(line) for line in whole.splitlines()]
        steps = {line["step"]: tuple(line["images"]) for line in lines}
        if len(steps) != len(lines):
            raise ValueError(f"{path} must have each step once.")
        ranks[int(match[1])][int(match[2])] = steps
    return Trace(ranks=ranks)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """How the samples of a run differ from each of them once an epoch."""

    lost: int
    repeated: int


def count_losses(trained: Steps, steps_per_epoch: int, records: int) -> Losses:
    """Count the samples that an epoch left out of `records`, and those that it had more than once."""
    lost = repeated = 0
    for first in range(0, max(trained) + 1, steps_per_epoch):
        counts = collections.Counter(
            image for step in range(first, first + steps_per_epoch) for image in trained.get(step, ())
        )
        lost += records - len(counts)
        repeated += sum(counts.values()) - len(counts)
    return Losses(lost=lost, repeated=repeated)
