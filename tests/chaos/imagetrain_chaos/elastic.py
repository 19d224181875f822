"""A run whose group loses workers for a while, goes on without them, and grows again when they come back."""

import dataclasses
import pathlib
import signal
from typing import Any

import numpy as np

from imagetrain_chaos import final_state, jobs, runs, traces, trials
from imagetrain_trainer.data import pack

WORKERS, FEWEST = 4, 2
EPOCHS = 8
RECORDS = jobs.STEPS_PER_EPOCH * jobs.BATCH  # that are trained on
_IMAGES = RECORDS * 5 // 3
_CLASSES = 4
_SHRINK_AT_STEP, _SMALL_STEPS = 30, 30


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What a run leaves.

    Attributes:
        trace: what it was trained on.
        state: its last checkpoint.
        sizes: workers of the group, each time that the command told of another number.
        leaks: what it should not have left.
    """

    trace: traces.Trace
    state: final_state.FinalState
    sizes: tuple[int, ...]
    leaks: tuple[str, ...]

    @property
    def final_loss(self) -> float:
        """Validation loss of the last epoch."""
        return self.state.validation_losses[-1]


def pack_numbered(folder: pathlib.Path) -> pathlib.Path:
    """Pack noise over a pattern a class, each image with its number in its first two pixels."""
    random = np.random.default_rng(0)
    labels = np.arange(_IMAGES) % _CLASSES
    patterns = random.integers(0, 120, (_CLASSES, 8, 8, 1))
    images = (patterns[labels] + random.integers(0, 136, (_IMAGES, 8, 8, 1))).astype(np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = np.divmod(np.arange(_IMAGES), 256)
    folder.mkdir(parents=True)
    np.savez(folder / "images.npz", x=images, y=labels)
    pack.pack(folder / "images.npz", str(folder / "set"), pack.PackOptions())
    return folder / "set"


def train(
    folder: pathlib.Path,
    data: pathlib.Path,
    *,
    seed: int,
    is_disturbed: bool,
    workers: int = WORKERS,
    fewest: int = FEWEST,
) -> Ended:
    """Run a job to its end, with a group that shrinks to `fewest` workers and grows again where it is disturbed.

    Raises:
        RunFailedError: the run fails, or the group does not shrink or grow.
    """
    trial = trials.Trial(folder=folder, data=data, workers=workers, epochs=EPOCHS, spec=_build_spec(seed, fewest))
    with trials.started(trial) as running:
        if is_disturbed:
            shrink_and_grow(running.run, workers=workers, fewest=fewest)
        finished = running.finish(timeout_seconds=300)
        sizes = tuple(event["workers"] for event in running.run.events if event["event"] == "resized")
        return Ended(trace=traces.read(running.site.gate.path), state=finished.state, sizes=sizes, leaks=finished.leaks)


def shrink_and_grow(run: runs.Run, *, workers: int, fewest: int) -> None:
    """Stop all processes of the last workers until the others have gone on without them, and let them go on."""
    run.wait_for_step(_SHRINK_AT_STEP)
    stopped = [each for each in run.processes() if each.rank >= fewest]
    for each in stopped:
        each.send(signal.SIGSTOP)
    try:
        run.wait_for(lambda: _sizes(run)[:1] == [fewest], "a smaller group", 120)
        run.wait_for_step(run.step + _SMALL_STEPS)
    finally:
        for each in stopped:
            each.send(signal.SIGCONT)
    run.wait_for(lambda: _sizes(run)[-1:] == [workers], "a group of all workers", 120)


def _sizes(run: runs.Run) -> list[int]:
    return [event["workers"] for event in list(run.events) if event["event"] == "resized"]


def _build_spec(seed: int, fewest: int) -> dict[str, Any]:
    return {
        "model": {
            "architecture": "traced_cnn",
            "module": "imagetrain_chaos.traced_model",
            "inputShape": [8, 8, 1],
        },
        "training": {
            "epochs": EPOCHS,
            "globalBatchSize": jobs.BATCH,
            "stepsPerExecution": 2,
            "seed": seed,
            "optimizer": {"learningRate": 0.002},
        },
        "recovery": {"minWorkers": fewest, "elasticTimeoutSeconds": 3},
    }
