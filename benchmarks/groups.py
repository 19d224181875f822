"""Worker groups for benchmarks: the real worker, pinned to given cores, watched through its own /progress."""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from imagetrain_api import job, names, plan, progress, schema, worker_config
from imagetrain_trainer.data import pack
from imagetrain_trainer.storage import store as storage
from imagetrain_trainer.training import checkpoints
from imagetrain_trainer.worker import outcomes

_POLL_SECONDS = 0.2


def build_job(data: pathlib.Path, output: pathlib.Path, **spec: object) -> job.ImageTrainingJob:
    """Return a valid job over local folders; `spec` is in the manifest's spelling."""
    return job.decode_job(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": "benchmark"},
            "spec": {
                "data": {"uri": data.as_uri()},
                "output": {"uri": output.as_uri(), "formats": ["saved_model"]},
                **spec,
            },
        }
    )


def pack_random(
    folder: pathlib.Path, *, records: int, height: int, width: int, channels: int, classes: int = 10
) -> pathlib.Path:
    """Pack images of noise over a pattern a class, so that there is something to learn."""
    if not (folder / "set" / "dataset.json").exists():
        random = np.random.default_rng(0)
        labels = np.arange(records) % classes
        patterns = random.integers(0, 200, (classes, height, width, channels))
        images = (patterns[labels] + random.integers(0, 56, (records, height, width, channels))).astype(np.uint8)
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "images.npz", x=images, y=labels)
        pack.pack(folder / "images.npz", str(folder / "set"), pack.PackOptions(ratios=(8, 1, 1)))
    return folder / "set"


@dataclasses.dataclass(slots=True)
class Group:
    """A running worker group."""

    processes: list[subprocess.Popen[bytes]]
    endpoints: Sequence[worker_config.WorkerEndpoint]
    folder: pathlib.Path

    def read_progress(self, rank: int = 0) -> progress.Progress | None:
        """Return a worker's progress, or None while it does not answer."""
        endpoint = self.endpoints[rank]
        url = f"http://{endpoint.host}:{endpoint.status_port}{names.PATH_PROGRESS}"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
            return schema.decode(progress.Progress, json.load(answer))
        return None

    def wait_until(self, reached: Callable[[progress.Progress], bool]) -> progress.Progress:
        """Wait for the chief's progress to reach something.

        Raises:
            RuntimeError: a worker ended first.
        """
        while True:
            report = self.read_progress()
            if report is not None and reached(report):
                return report
            for rank, process in enumerate(self.processes):
                if process.poll() is not None:
                    log = (self.folder / f"rank-{rank}.log").read_text()[-2000:]
                    raise RuntimeError(f"rank {rank} ended with {process.returncode}: {log}")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Ask the group to save and stop, and wait for it."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        self.wait()

    def wait(self) -> list[int]:
        """Wait for every worker's end and return the exit statuses."""
        return [process.wait() for process in self.processes]

    def outcome(self, rank: int = 0) -> progress.WorkerOutcome | None:
        """Return what a worker said at its end."""
        return outcomes.read_outcome(self.folder / f"termination-{rank}.json")


@contextlib.contextmanager
def running(
    training: job.ImageTrainingJob, folder: pathlib.Path, run_id: str, cores: Sequence[set[int]]
) -> Iterator[Group]:
    """Start a group, worker `rank` on the processors `cores[rank]`, and end what is left of it afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    endpoints = [
        worker_config.WorkerEndpoint(
            host="127.0.0.1", collective_port=_free_port(), status_port=_free_port(), rendezvous_port=_free_port()
        )
        for _ in range(training.spec.workers)
    ]
    config_path = folder / "worker.json"
    group_plan = plan.plan_worker_group(
        training, run_id=run_id, endpoints=endpoints, config_path=str(config_path), environment={}
    )
    config_path.write_text(worker_config.dump_worker_config(group_plan.config))
    group = Group([], endpoints, folder)
    try:
        for rank, processors in enumerate(cores):
            group.processes.append(_start(group_plan, folder, rank, processors))
        yield group
    finally:
        for process in group.processes:
            if process.poll() is None:
                process.kill()
            process.wait()


def _start(
    group_plan: plan.WorkerGroupPlan, folder: pathlib.Path, rank: int, processors: set[int]
) -> subprocess.Popen[bytes]:
    variables = {
        **os.environ,
        **group_plan.environment,
        names.ENV_RANK: str(rank),
        names.ENV_WORK_DIR: str(folder / f"work-{rank}"),
        names.ENV_TERMINATION_MESSAGE: str(folder / f"termination-{rank}.json"),
        names.ENV_CPU_THREADS: str(len(processors)),
    }
    command = [sys.executable, "-m", "imagetrain_trainer.worker.main"]
    with (folder / f"rank-{rank}.log").open("wb") as log:
        return subprocess.Popen(
            command,
            env=variables,
            stderr=log,
            stdout=log,
            preexec_fn=lambda: os.sched_setaffinity(0, processors),  # noqa: PLW1509 - no threads yet
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run_to_end(training: job.ImageTrainingJob, folder: pathlib.Path, run_id: str, cores: Sequence[set[int]]) -> Group:
    """Run a group to its end.

    Raises:
        RuntimeError: a worker failed.
    """
    with running(training, folder, run_id, cores) as group:
        if any(group.wait()):
            raise RuntimeError(f"a worker failed: {[group.outcome(rank) for rank in range(len(cores))]}")
    return group


def load_final_state(output: pathlib.Path, run_id: str) -> checkpoints.Checkpoint:
    """Return a finished run's last checkpoint."""
    run_store = storage.open_store(output.as_uri()).child(names.run_prefix(run_id))
    checkpoint = checkpoints.CheckpointStore(run_store, keep=1).load_newest()
    if checkpoint is None:
        raise RuntimeError(f"{run_id} has no checkpoint")
    return checkpoint
