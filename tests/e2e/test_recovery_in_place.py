"""A process that dies or hangs is replaced by another, the rest of the group stays, and nothing is lost."""

import pathlib
import signal

import numpy as np
import pytest

import command_events
import waiting
from imagetrain_chaos import run_processes
from imagetrain_trainer.storage import store
from imagetrain_trainer.training import checkpoints

pytestmark = pytest.mark.timeout(300)  # two whole runs of two workers on a busy machine
TRAINING = {"epochs": 40, "globalBatchSize": 48, "seed": 3, "stepsPerExecution": 1}


@pytest.fixture
def run_job(imagetrain, write_job, local_data, tmp_path):
    """Return a function that runs the job, with something done to it at step 30, and returns end and last state."""

    def run(name: str, *, workers: int, harm=None):
        manifest = write_job(
            f"file://{local_data}/",
            f"file://{tmp_path}/{name}/",
            workers=workers,
            training=TRAINING,
            checkpoint={"everySeconds": 1},
        )
        before = set(imagetrain.runs.iterdir()) if imagetrain.runs.exists() else set()
        process = imagetrain.start("run", manifest, "--json")
        if harm is not None:
            command_events.wait_for_step(process, 30)
            (folder,) = set(imagetrain.runs.iterdir()) - before
            harm(folder)
        finished = imagetrain.wait(process)
        assert finished.status == 0, finished.errors + imagetrain.logs()
        return finished, load_state(tmp_path / name)

    return run


def load_state(output: pathlib.Path) -> checkpoints.Checkpoint:
    (run,) = (output / "runs").iterdir()
    found = checkpoints.CheckpointStore(store.open_store(run.as_uri()), keep=1).load_newest()
    assert found is not None
    return found


def send(number: signal.Signals, rank: int):
    def harm(folder: pathlib.Path) -> None:
        training = run_processes.training(folder, rank)
        assert training is not None
        assert training.send(number)

    return harm


def kill_supervisor(rank: int):
    def harm(folder: pathlib.Path) -> None:
        killed = run_processes.supervisor(folder, rank)
        assert killed is not None
        below = [each for each in run_processes.find(folder) if each.rank == rank and each.pid != killed.pid]
        assert len(below) == 2  # the fork server and the training process
        assert killed.send(signal.SIGKILL)
        waiting.until(lambda: not any(run_processes.is_running(each) for each in below), seconds=10)

    return harm


def recoveries(finished) -> list[tuple[int, str]]:
    """Return rank and reason of each recovery that the command told of; none of them was a restart of the workers."""
    assert not [event for event in finished.events if event["event"] == "restarted"]
    found = {}
    for event in finished.events:
        if event["event"] == "recovered":
            found[event["recovery"]["generation"]] = (event["recovery"]["rank"], event["recovery"]["reason"])
    return list(found.values())


def test_lone_worker_that_was_killed_ends_with_the_very_same_weights(run_job) -> None:
    _, undisturbed = run_job("undisturbed", workers=1)
    finished, state = run_job("killed", workers=1, harm=send(signal.SIGKILL, 0))
    assert recoveries(finished) == [(0, "Killed")]
    assert state.step == undisturbed.step
    different = [key for key, array in undisturbed.arrays.items() if not np.array_equal(array, state.arrays[key])]
    assert not different


@pytest.mark.parametrize("rank", [0, 1])
def test_killed_rank_is_replaced_in_place_and_the_weights_are_as_if_undisturbed(run_job, rank: int) -> None:
    _, undisturbed = run_job("undisturbed", workers=2)
    finished, state = run_job("killed", workers=2, harm=send(signal.SIGKILL, rank))
    assert recoveries(finished) == [(rank, "Killed")]
    assert state.step == undisturbed.step
    for key, array in undisturbed.arrays.items():
        np.testing.assert_allclose(state.arrays[key], array, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("rank", [0, 1])
def test_killed_supervisor_alone_starts_again_and_the_weights_are_as_if_undisturbed(run_job, rank: int) -> None:
    _, undisturbed = run_job("undisturbed", workers=2)
    finished, state = run_job("killed", workers=2, harm=kill_supervisor(rank))
    (replaced,) = [event for event in finished.events if event["event"] == "replaced"]
    assert (replaced["rank"], replaced["delaySeconds"]) == (rank, 0)
    assert recoveries(finished) == [(rank, "Lost")]
    last = finished.events[-1]
    assert (last["restarts"], last["recoveries"], last["replaced"]) == (0, 1, 1)
    assert state.step == undisturbed.step
    for key, array in undisturbed.arrays.items():
        np.testing.assert_allclose(state.arrays[key], array, atol=1e-5, err_msg=key)


def test_frozen_rank_is_replaced_in_place(run_job) -> None:
    finished, _ = run_job("frozen", workers=2, harm=send(signal.SIGSTOP, 1))
    assert recoveries(finished) == [(1, "Frozen")]
