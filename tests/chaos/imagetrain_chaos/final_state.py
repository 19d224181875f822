"""What a finished run leaves: every variable of its last checkpoint, and how two runs differ."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy import typing as npt

from imagetrain_api import names
from imagetrain_trainer.storage import store as storage
from imagetrain_trainer.training import checkpoints


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FinalState:
    """The last checkpoint of a run.

    Attributes:
        step: of it.
        arrays: every variable.
        validation_losses: one an epoch.
        group_sizes: workers of the group, for each change.
    """

    step: int
    arrays: Mapping[str, npt.NDArray[Any]]
    validation_losses: tuple[float, ...]
    group_sizes: tuple[int, ...]


def load(output_uri: str, run_id: str) -> FinalState:
    """Load the last checkpoint of a run; S3 is reached as the environment says.

    Raises:
        RuntimeError: there is none.
    """
    run_store = storage.open_store(output_uri).child(names.run_prefix(run_id))
    checkpoint = checkpoints.CheckpointStore(run_store, keep=1).load_newest()
    if checkpoint is None:
        raise RuntimeError(f"{run_id} must have a checkpoint below {output_uri}, and it has none")
    return FinalState(
        step=checkpoint.step,
        arrays=checkpoint.arrays,
        validation_losses=tuple(record["validation_loss"] for record in checkpoint.host["history"]),
        group_sizes=tuple(workers for _, workers in checkpoint.host["group_sizes"]),
    )


def largest_difference(one: FinalState, other: FinalState) -> float:
    """Return the largest difference of any number of two states: 0 when they are equal to the bit.

    Raises:
        RuntimeError: they are not of one model, or not of one step.
    """
    if (one.step, set(one.arrays)) != (other.step, set(other.arrays)):
        raise RuntimeError(f"states of steps {one.step} and {other.step} with other variables cannot be compared")
    largest = 0.0
    for name, array in one.arrays.items():
        if not np.array_equal(array, other.arrays[name]):
            difference = np.abs(array.astype(np.float64) - other.arrays[name].astype(np.float64))
            largest = max(largest, float(difference.max()))
    return largest
