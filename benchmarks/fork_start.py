"""Starts a training process forked and in a fresh interpreter, in turns, and times each until it trains.

    python benchmarks/fork_start.py [--rounds 5]

One worker, small_cnn at 28 px, on one core. "training" is the phase that compiles the first step, "first step" its end.
The fork server has imported TensorFlow before the clock starts, as it has when a generation follows another.
"""

import argparse
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

import groups
from imagetrain_api import job, names, progress, worker_config
from imagetrain_client.executor import placement
from imagetrain_trainer.worker import environment, forking, progress_block, training_process

_DEADLINE_SECONDS = 300.0


def main() -> None:
    """Print a line a start and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        data = groups.pack_random(folder, records=4000, height=28, width=28, channels=1)
        training = groups.build_job(
            data,
            folder / "out",
            workers=1,
            model={"architecture": "small_cnn", "inputShape": [28, 28, 1]},
            training={"epochs": 50, "globalBatchSize": 32},
        )
        with (folder / "log").open("wb") as log:
            _compare(training, folder, log.fileno(), rounds)


def _compare(training: job.ImageTrainingJob, folder: pathlib.Path, log: int, rounds: int) -> None:
    starters: dict[str, training_process.Starter] = {
        "forked": forking.ForkServer(os.environ, log),
        "cold": training_process.ColdStart(log),
    }
    while not starters["forked"].is_ready():
        time.sleep(0.1)
    seconds: dict[str, list[tuple[float, float]]] = {kind: [] for kind in starters}
    for number in range(rounds):
        for kind, starter in starters.items():
            run = f"{kind}-{number}"
            found = _start(starter, _variables(training, folder / run, run), folder / run)
            seconds[kind].append(found)
            print(f"{kind}: training after {found[0]:.2f} s, first step after {found[1]:.2f} s", flush=True)
    for starter in starters.values():
        starter.close()
    medians = {
        kind: tuple(statistics.median(part) for part in zip(*found, strict=True)) for kind, found in seconds.items()
    }
    for index, what in enumerate(("training", "first step")):
        forked, cold = medians["forked"][index], medians["cold"][index]
        print(f"{what}: median {forked:.2f} s forked, {cold:.2f} s cold, ratio {cold / forked:.2f}")


def _variables(training: job.ImageTrainingJob, folder: pathlib.Path, run: str) -> dict[str, str]:
    endpoints = placement.loopback_endpoints(1)
    config = worker_config.WorkerConfig(run_id=run, job=training, endpoints=endpoints)
    work_dir = folder / "work"
    work_dir.mkdir(parents=True)
    (folder / "worker.json").write_text(worker_config.dump_worker_config(config))
    return {
        **os.environ,
        names.ENV_CONFIG: str(folder / "worker.json"),
        names.ENV_RANK: "0",
        names.ENV_WORK_DIR: str(work_dir),
        environment.ENV_PROGRESS_BLOCK: str(folder / "block"),
        environment.ENV_OUTCOME: str(folder / "outcome.json"),
    }


def _start(starter: training_process.Starter, variables: dict[str, str], folder: pathlib.Path) -> tuple[float, float]:
    """Return the seconds until the process enters "training" and until its first step is done."""
    block = progress_block.ProgressBlock(folder / "block", create=True)
    began = time.monotonic()
    process = starter.start(variables)

    def wait_until(holds: Callable[[progress.Progress], bool]) -> float:
        while not holds(block.read()):
            if process.poll() is not None or time.monotonic() > began + _DEADLINE_SECONDS:
                raise RuntimeError(f"the training process did not get there: {block.read()}")
            time.sleep(0.01)
        return time.monotonic() - began

    found = wait_until(lambda report: report.phase == "training"), wait_until(lambda report: report.step > 0)
    process.kill()
    process.wait()
    block.close()
    return found


if __name__ == "__main__":
    main()
