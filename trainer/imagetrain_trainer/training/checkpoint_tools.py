"""What people do with a run's checkpoints: list, verify, export. It only reads object storage. No TensorFlow here."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import safetensors.numpy
from numpy import typing as npt

from imagetrain_api import names
from imagetrain_trainer import errors
from imagetrain_trainer.storage import local
from imagetrain_trainer.storage import store as storage
from imagetrain_trainer.training import checkpoint_garbage, checkpoint_manifest, checkpoints

NEWEST = "newest"
_MODEL = "model/"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One complete checkpoint.

    Attributes:
        place: its step and generation.
        manifest: None where it cannot be read.
        counts: whether it is on the line of the run; of an older generation's last saves some are not.
        problem: what is wrong with it; empty when nothing was found.
    """

    place: checkpoint_manifest.Place
    manifest: checkpoint_manifest.Manifest | None
    counts: bool
    problem: str = ""


def find_run(output: storage.ObjectStore, run: str | None) -> str:
    """Return the run to look at: the given one, or the newest that has a checkpoint.

    Raises:
        ConfigError: there is none.
    """
    runs = [run] if run is not None else sorted(output.list_folders(names.RUNS_PREFIX), reverse=True)
    for run_id in runs:
        if _complete(open_checkpoints(output, run_id)):
            return run_id
    where = output.uri if run is None else output.uri_of(names.run_prefix(run))
    raise errors.ConfigError(f"URI must be the output.uri of a job with checkpoints, got {where}, which has none.")


def open_checkpoints(output: storage.ObjectStore, run_id: str) -> checkpoints.CheckpointStore:
    """Open a run's checkpoints to read them."""
    return checkpoints.CheckpointStore(output.child(names.run_prefix(run_id)), keep=1)


def list_checkpoints(saved: checkpoints.CheckpointStore) -> Iterator[Found]:
    """Yield every complete checkpoint, oldest first; the states are not read."""
    fence = saved.fence.read()
    for place in _complete(saved):
        try:
            manifest = saved.load_manifest(place)
        except errors.DataCorruptError as error:
            yield Found(place=place, manifest=None, counts=fence.counts(place), problem=str(error))
        else:
            yield Found(place=place, manifest=manifest, counts=fence.counts(place))


def verify_checkpoints(saved: checkpoints.CheckpointStore) -> Iterator[Found]:
    """Yield every complete checkpoint after reading it whole, with what is wrong with it."""
    for found in list_checkpoints(saved):
        try:
            if found.manifest is not None:
                saved.load_place(found.place)
        except (errors.DataCorruptError, errors.ObjectNotFoundError) as error:
            yield dataclasses.replace(found, problem=str(error))
        else:
            yield found


def load(saved: checkpoints.CheckpointStore, step: str) -> checkpoints.Checkpoint:
    """Return the checkpoint of a step, or the newest whole one for `newest`.

    Raises:
        ConfigError: there is none, or `step` is no step.
        DataCorruptError: it is damaged.
    """
    if step == NEWEST:
        newest = saved.load_newest()
        if newest is None:
            raise errors.ConfigError(f"STEP must be of a checkpoint, got {step!r}, but {saved.objects.uri} has none.")
        return newest
    steps = saved.steps()
    if not step.isascii() or not step.isdigit() or int(step) not in steps:
        raise errors.ConfigError(
            f"STEP must be {NEWEST} or one of {', '.join(map(str, steps)) or 'none'}, got {step[:40]!r}."
        )
    return saved.load(int(step))


def export_weights(checkpoint: checkpoints.Checkpoint, path: pathlib.Path) -> int:
    """Write the model's variables, without the optimizer's, to a .safetensors or .npz file; return how many.

    Raises:
        ConfigError: the file's name has another ending.
        OSError: it cannot be written.
    """
    arrays = select_weights(checkpoint.arrays)
    if path.suffix == ".npz":
        with local.write_atomically(path) as file:
            np.savez(file, **dict(arrays))  # type: ignore[arg-type]  # names are free, but for `file`
    elif path.suffix == ".safetensors":
        data = safetensors.numpy.save(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()},
            metadata={"format": "np", "step": str(checkpoint.step)},
        )
        with local.write_atomically(path) as file:
            file.write(data)
    else:
        raise errors.ConfigError(f"DEST must end in .safetensors or .npz, got {path.name!r}.")
    return len(arrays)


def select_weights(arrays: checkpoints.Arrays) -> dict[str, npt.NDArray[Any]]:
    """Return the model's variables under Keras' own paths, or under their full names where a path occurs twice."""
    model = {name: array for name, array in arrays.items() if name.startswith(_MODEL)}
    paths = {name: name.split("/", 2)[2] for name in model}
    if len(set(paths.values())) < len(paths):
        return model
    return {paths[name]: array for name, array in model.items()}


def _complete(saved: checkpoints.CheckpointStore) -> list[checkpoint_manifest.Place]:
    return checkpoint_garbage.find_complete(saved.objects.list())
