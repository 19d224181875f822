"""Goodput under random failures: recovery in place beside a restart of the whole job, on a real S3 server.

    python benchmarks/goodput.py --minutes 30 --failures-every 60 [--seed 1]

Goodput is the time that the steps which were reached need at the run's own rate, where nothing happens to it, over the
time that they took (see `undisturbed`); both count from a run's first finished step. Two workers, one core each, train
small_cnn on generated images that lie in versitygw, as do the checkpoints. Failures come at random moments, on average
every so many seconds: SIGKILL for the training process of a random rank, and one time in three for its whole worker.
Both systems meet the same failures.

"Whole restart" is what a JobSet does at any failure: every process of the job is ended and started again, from the
newest checkpoint, without a fork server. It is favoured: nothing is waited for between an end and the next start,
while a cluster would delete and schedule pods.

The goals hold for 30 minutes; the exit status is 1 when one is missed.
"""

import argparse
import dataclasses
import os
import pathlib
import random
import signal
import sys
import tempfile
import time
from collections.abc import Mapping

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "support"))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "cluster"))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "chaos"))

import groups
import s3_servers
import undisturbed
from imagetrain_api import names
from imagetrain_chaos import gate, jobs, run_processes, runs

WORKERS = 2
GOALS = {600.0: 0.95, 60.0: 0.85}
"""Least goodput in place, by the mean seconds between failures."""
_RECORDS, _SIDE, _BATCH = 16000, 28, 64
_WORKER_SHARE = 1 / 3  # of the failures that take the whole worker
_START_SECONDS = 300.0
_SLACK_SECONDS = 30.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A kill.

    Attributes:
        at_seconds: after the first finished step.
        rank: whose.
        is_worker: the supervisor goes, too.
    """

    at_seconds: float
    rank: int
    is_worker: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a system reached.

    Attributes:
        steps: that it reached.
        seconds: that they took.
        rate: steps a second where nothing happened.
        failures: that it met.
        recoveries: that it told of; a second failure during a recovery may be one with it.
        lost_seconds: that it told of its recoveries in place.
    """

    steps: int
    seconds: float
    rate: float
    failures: int
    recoveries: int
    lost_seconds: float = 0.0

    @property
    def goodput(self) -> float:
        """Share of the time that the steps needed."""
        return self.steps / self.rate / self.seconds


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where everything lies."""

    folder: pathlib.Path
    server: s3_servers.S3Server
    bucket: str
    checkpoint: Mapping[str, object]

    def manifest(self, system: str) -> pathlib.Path:
        """Write the job of a system."""
        document = jobs.build_manifest(
            f"s3://{self.bucket}/data/",
            f"s3://{self.bucket}/{system}/",
            workers=WORKERS,
            epochs=100000,
            model={"architecture": "small_cnn", "inputShape": [_SIDE, _SIDE, 1]},
            training={"epochs": 100000, "globalBatchSize": _BATCH},
            checkpoint=dict(self.checkpoint),
            recovery={"maxRestarts": 10000},
        )
        (self.folder / system).mkdir(exist_ok=True)
        return jobs.write_manifest(self.folder / system / "job.yaml", document)

    def launch(self, system: str, number: int = 0, *resume: str, **environment: str) -> runs.Launch:
        """Return how to start a system, with scratch folders of its own."""
        return runs.Launch(
            manifest=self.manifest(system),
            folder=self.folder / system / f"start-{number}",
            gate=gate.GateFolder(self.folder / "no-gate"),
            environment={**self.server.environment(), **environment},
            arguments=resume,
        )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--failures-every", type=float, default=600.0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every-seconds", type=int, default=5, help="spec.checkpoint.everySeconds")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="imagetrain-goodput-") as name:
        folder = pathlib.Path(name)
        with s3_servers.versitygw_server(folder / "s3", is_keeping_alive=True) as server:
            os.environ.update(server.environment())
            bench = Bench(
                folder=folder,
                server=server,
                bucket=server.create_bucket("goodput"),
                checkpoint={"everySeconds": arguments.every_seconds},
            )
            upload_images(bench)
            sys.exit(compare(bench, arguments))


def upload_images(bench: Bench) -> None:
    """Put generated images into the bucket."""
    packed = groups.pack_random(bench.folder / "images", records=_RECORDS, height=_SIDE, width=_SIDE, channels=1)
    client = bench.server.client()
    for path in sorted(packed.rglob("*")):
        if path.is_file():
            client.put_object(Bucket=bench.bucket, Key=f"data/{path.relative_to(packed)}", Body=path.read_bytes())


def compare(bench: Bench, arguments: argparse.Namespace) -> int:
    """Measure both systems and print the table; return the exit status."""
    seconds = 60 * arguments.minutes
    failures = plan_failures(arguments.seed, seconds, arguments.failures_every)
    note(f"{len(failures)} failures are planned; first in place")
    in_place = recover_in_place(bench, failures, seconds)
    each = in_place.lost_seconds / max(1, in_place.recoveries)
    note(f"{in_place.goodput:.1%} in place, {each:.1f} s lost by a recovery; now with restarts of the whole job")
    whole = restart_whole(bench, failures, seconds)
    print(f"seed {arguments.seed}: {len(failures)} failures planned in {arguments.minutes:g} minutes a system")
    goal = GOALS.get(arguments.failures_every)
    print(f"{'':<24}{'failures':>9}{'recoveries':>12}{'steps':>9}{'steps/s':>9}{'goodput':>10}{'goal':>9}")
    print_row("imagetrain, in place", in_place, f">= {goal:.0%}" if goal else "-")
    print_row("whole restart (JobSet)", whole, "-")
    return int(goal is not None and in_place.goodput < goal)


def print_row(name: str, result: Result, goal: str) -> None:
    """Print a system's row."""
    counts = f"{result.failures:>9}{result.recoveries:>12}{result.steps:>9}{result.rate:>9.2f}"
    print(f"{name:<24}{counts}{result.goodput:>10.1%}{goal:>9}")


def note(text: str) -> None:
    """Tell whoever waits."""
    print(text, file=sys.stderr, flush=True)


def plan_failures(seed: int, seconds: float, mean_seconds: float) -> list[Failure]:
    """Draw failures whose distances are exponential."""
    draw, planned, at = random.Random(seed), list[Failure](), 0.0  # noqa: S311 - chance, not secrecy
    while (at := at + draw.expovariate(1 / mean_seconds)) < seconds:
        planned.append(Failure(at_seconds=at, rank=draw.randrange(WORKERS), is_worker=draw.random() < _WORKER_SHARE))
    return planned


def recover_in_place(bench: Bench, failures: list[Failure], seconds: float) -> Result:
    """Let the failures happen to one run."""
    kills = []
    with runs.Run(bench.launch("in-place")) as run:
        began, first = wait_for_first_step(run)
        for failure in failures:
            wait_until(run, began + failure.at_seconds)
            kills.append(time.time())
            kill(run, failure)
        wait_until(run, began + seconds)
        return Result(
            steps=run.step - first,
            seconds=time.monotonic() - began,
            rate=undisturbed.find_rate(read_told(run, first), kills),
            failures=len(failures),
            recoveries=len(run.failures()),
            lost_seconds=sum(record.lost_seconds for record in run.failures()),
        )


def restart_whole(bench: Bench, failures: list[Failure], seconds: float) -> Result:
    """Let the failures happen to a job that is ended and started again as a whole."""
    began, first, reached, run_id = 0.0, 0, 0, ""
    told, kills = list[undisturbed.Told](), list[float]()
    for number, failure in enumerate([*failures, None]):
        resume = ("--resume", run_id) if run_id else ()
        launch = bench.launch("whole", number, *resume, **{names.ENV_FORK_SERVER: "0"})
        with runs.Run(launch) as run:
            if not run_id:
                began, first = wait_for_first_step(run)
                run_id = run.run_id
            wait_until(run, began + (failure.at_seconds if failure else seconds))
            reached = max(reached, run.step)
            if failure and run.events:
                kills.append(time.time())
                kill(run, failure)
            told += read_told(run, first)
    return Result(
        steps=reached - first,
        seconds=time.monotonic() - began,
        rate=undisturbed.find_rate(told, kills),
        failures=len(failures),
        recoveries=len(failures),
    )


def read_told(run: runs.Run, first: int) -> list[undisturbed.Told]:
    """Return the steps that a run told of from its first one on, by the machine's clock."""
    shown = [event["progress"] for event in run.events if event["event"] == "progress"]
    return [undisturbed.Told(each["updatedAt"], each["step"]) for each in shown if each["step"] >= first]


def wait_for_first_step(run: runs.Run) -> tuple[float, int]:
    """Return when the run told of its first finished steps, and their number."""
    run.wait_for_step(1, _START_SECONDS)
    return time.monotonic(), run.step


def wait_until(run: runs.Run, moment: float) -> None:
    """Wait, and fail when the run ends meanwhile."""
    left = max(0.0, moment - time.monotonic())
    run.wait_for(lambda: time.monotonic() >= moment, "the next failure", left + _SLACK_SECONDS)


def kill(run: runs.Run, failure: Failure) -> None:
    """Kill what the failure is to take, where it is there: a group that is just starting may have none."""
    find = run_processes.supervisor if failure.is_worker else run_processes.training
    process = find(run.folder, failure.rank)
    if process is not None:
        process.send(signal.SIGKILL)


if __name__ == "__main__":
    main()
