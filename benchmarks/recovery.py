"""How fast a group notices a failure and trains on, in place: with the fork server, and without it.

    python benchmarks/recovery.py [--runs 20] [--cold-runs 5] [--faults kill,freeze,freeze-worker,block]

Two workers of one core each train mobilenet_v2 at 96 px on generated images in a folder; checkpoints go to a folder
too. A fault happens to rank 1 at a random moment between two recoveries:

    kill            SIGKILL for its training process
    freeze          SIGSTOP for its training process
    freeze-worker   SIGSTOP for its supervisor and all below; SIGCONT when the others have noticed
    block           its training step sleeps for ever, in Python (recovery_model.py)

"Detected" is the time from the fault to the record that the group makes of it, which names rank 1 or the run counts as
missed. "Next step" is the time from there to the first finished step of the next generation. Both are medians; the
worst follows. The goals hold for an idle machine; the exit status is 1 when one is missed.
"""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "cluster"))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "chaos"))

import groups
import recovery_model
from imagetrain_api import job, names, progress
from imagetrain_chaos import gate

RANK = 1
_PACKAGES = sys.path[:3]  # of the chaos tests, and this folder: the workers import the model from there
STEP_TIMEOUT_SECONDS = 60
NEXT_STEP_GOAL_SECONDS = 15.0
_RECORDS, _SIDE, _BATCH = 640, 96, 32
_EVERY_SECONDS = 10  # spec.checkpoint.everySeconds
_STEPS_BETWEEN = (6, 12)  # of each recovery and the next fault; the run's own step deadline needs a few
_START_SECONDS = 300.0
_WAIT_SECONDS = 180.0
_POLL_SECONDS = 0.05


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A kind of fault.

    Attributes:
        begin: does it to a worker of the group.
        goal_seconds: longest time to its detection.
        reasons: what the record may call it.
        end: called when it was noticed.
    """

    begin: Callable[["Bench"], None]
    goal_seconds: float
    reasons: tuple[str, ...]
    end: Callable[["Bench"], None] = lambda _bench: None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One recovery, in seconds."""

    detected: float
    next_step: float
    lost: float
    message: str
    is_right: bool


@dataclasses.dataclass(slots=True, kw_only=True)
class Bench:
    """A running group and the folder of its gate."""

    group: groups.Group
    gate: gate.GateFolder
    frozen: list[int] = dataclasses.field(default_factory=list)

    def training_pid(self) -> int:
        """Return the training process of RANK.

        Raises:
            RuntimeError: it has none.
        """
        for child in _children(self.group.processes[RANK].pid):
            command = pathlib.Path(f"/proc/{child}/cmdline").read_bytes()
            if b"fork_server" in command:
                for forked in _children(child):
                    return forked
            elif b"training.main" in command:
                return child
        raise RuntimeError(f"rank {RANK} has no training process")

    def read(self) -> progress.Progress:
        """Return the chief's progress.

        Raises:
            RuntimeError: a worker has ended.
        """
        return self.group.wait_until(lambda _report: True)

    def wait(self, reached: Callable[[progress.Progress], bool], what: str, seconds: float = _WAIT_SECONDS) -> float:
        """Wait until the chief's progress is so, and return the Unix time.

        Raises:
            TimeoutError: it takes too long.
        """
        deadline = time.monotonic() + seconds
        while not reached(report := self.read()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} did not come within {seconds:.0f} s; the last report is {report}")
            time.sleep(_POLL_SECONDS)
        return time.time()


def _kill(bench: Bench) -> None:
    os.kill(bench.training_pid(), signal.SIGKILL)


def _freeze(bench: Bench) -> None:
    os.kill(bench.training_pid(), signal.SIGSTOP)


def _freeze_worker(bench: Bench) -> None:
    bench.frozen = [bench.group.processes[RANK].pid]
    for pid in bench.frozen:
        os.kill(pid, signal.SIGSTOP)
        bench.frozen.extend(_children(pid))


def _thaw_worker(bench: Bench) -> None:
    while bench.frozen:
        with contextlib.suppress(ProcessLookupError):
            os.kill(bench.frozen.pop(), signal.SIGCONT)


def _block(bench: Bench) -> None:
    bench.gate.request("block", RANK)
    while not bench.gate.takers("block", RANK):
        time.sleep(_POLL_SECONDS / 10)


def _release(bench: Bench) -> None:
    bench.gate.release("block", RANK)


FAULTS = {
    "kill": Fault(begin=_kill, goal_seconds=2.0, reasons=("Killed",)),
    "freeze": Fault(begin=_freeze, goal_seconds=12.0, reasons=("Frozen",)),
    "freeze-worker": Fault(
        begin=_freeze_worker, goal_seconds=12.0, reasons=("Frozen", "Lost", "PeerLost"), end=_thaw_worker
    ),
    "block": Fault(begin=_block, goal_seconds=STEP_TIMEOUT_SECONDS, reasons=("Hung",), end=_release),
}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="of each fault, with the fork server")
    parser.add_argument("--cold-runs", type=int, default=5, help="the same without it; 0: none")
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chosen = arguments.faults.split(",")
    if unknown := set(chosen) - set(FAULTS):
        parser.error(f"--faults must be of {', '.join(FAULTS)}, got {min(unknown)!r}.")
    draw = random.Random(arguments.seed)  # noqa: S311 - chance, not secrecy
    print(
        f"{'':<14}{'start':<14}{'runs':>5}{'detected, s':>16}{'goal':>7}{'next step, s':>16}{'goal':>7}{'lost, s':>9}"
    )
    missed = 0
    with tempfile.TemporaryDirectory(prefix="imagetrain-recovery-") as name:
        folder = pathlib.Path(name)
        for start, runs in (("fork server", arguments.runs), ("interpreter", arguments.cold_runs)):
            if runs:
                with running(folder, has_fork_server=start == "fork server") as bench:
                    for fault in chosen:
                        samples = measure(bench, FAULTS[fault], runs, draw)
                        missed += tell(fault, start, samples, is_goal=start == "fork server")
    sys.exit(int(missed > 0))


@contextlib.contextmanager
def running(folder: pathlib.Path, *, has_fork_server: bool) -> Iterator[Bench]:
    """Run the group from its start to the end of the block."""
    data = groups.pack_random(folder / "images", records=_RECORDS, height=_SIDE, width=_SIDE, channels=3)
    own = folder / ("forked" if has_fork_server else "cold")
    held = gate.GateFolder(own / "gate")
    held.make(pace_seconds=0.0)
    os.environ[gate.ENV_FOLDER] = str(held.path)
    os.environ[names.ENV_FORK_SERVER] = "1" if has_fork_server else "0"
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (*_PACKAGES, os.environ.get("PYTHONPATH"))))
    cores = sorted(os.sched_getaffinity(0))
    with groups.running(build_job(data, own / "out"), own, "r1", [{cores[0]}, {cores[-1]}]) as group:
        bench = Bench(group=group, gate=held)
        try:
            bench.wait(lambda report: report.step > 0, "the first step", _START_SECONDS)
            yield bench
        finally:
            _thaw_worker(bench)


def build_job(data: pathlib.Path, output: pathlib.Path) -> job.ImageTrainingJob:
    """Return a job that outlives the benchmark."""
    return groups.build_job(
        data,
        output,
        workers=2,
        model={
            "architecture": "gated_mobilenet_v2",
            "module": recovery_model.__name__,
            "inputShape": [_SIDE, _SIDE, 3],
        },
        training={"epochs": 100000, "globalBatchSize": _BATCH},
        checkpoint={"everySeconds": _EVERY_SECONDS},
        recovery={"maxRestarts": 10000, "stepTimeoutSeconds": STEP_TIMEOUT_SECONDS},
    )


def measure(bench: Bench, fault: Fault, runs: int, draw: random.Random) -> list[Sample]:
    """Let a fault happen some times and follow each recovery."""
    samples = []
    for _ in range(runs):
        begin = bench.read().step + draw.randint(*_STEPS_BETWEEN)
        bench.wait(lambda report, begin=begin: report.step >= begin, "the step of the fault")  # type: ignore[misc]  # bound at once
        time.sleep(draw.random())
        samples.append(_follow(bench, fault))
    return samples


def _follow(bench: Bench, fault: Fault) -> Sample:
    known = _newest_generation(bench.read())
    fault.begin(bench)
    began_at = time.time()
    bench.wait(lambda report: _newest_generation(report) > known, "the record of the fault")
    fault.end(bench)
    record = bench.read().recoveries[-1]
    bench.wait(lambda report: report.images == 0, "the next generation")
    bench.wait(lambda report: report.images > 0 and report.phase == "training", "its first step")
    stepped_at = bench.read().updated_at
    bench.wait(lambda report: report.recoveries[-1].resumed_at is not None, "a step behind the last")
    return Sample(
        detected=record.detected_at - began_at,
        next_step=stepped_at - record.detected_at,
        lost=bench.read().recoveries[-1].lost_seconds,
        message=f"{record.reason}, rank {record.rank}: {record.message}",
        is_right=record.rank == RANK and record.reason in fault.reasons,
    )


def _newest_generation(report: progress.Progress) -> int:
    return report.recoveries[-1].generation if report.recoveries else 0


def tell(name: str, start: str, samples: Sequence[Sample], *, is_goal: bool) -> int:
    """Print the row of a fault and return how many goals it missed."""
    detected = [sample.detected for sample in samples]
    steps = [sample.next_step for sample in samples]
    goal = FAULTS[name].goal_seconds
    lost = statistics.median(sample.lost for sample in samples)
    print(
        f"{name:<14}{start:<14}{len(samples):>5}{_range(detected):>16}{goal:>7.0f}{_range(steps):>16}"
        f"{f'{NEXT_STEP_GOAL_SECONDS:.0f}' if is_goal else '-':>7}{lost:>9.1f}",
        flush=True,
    )
    wrong = [sample.message for sample in samples if not sample.is_right]
    print("".join(f"  not what happened: {message}\n" for message in wrong), end="", flush=True)
    is_late = is_goal and statistics.median(steps) > NEXT_STEP_GOAL_SECONDS
    return len(wrong) + int(statistics.median(detected) > goal) + int(is_late)


def _range(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.1f} (to {max(seconds):.1f})"


def _children(pid: int) -> list[int]:
    text = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
    try:
        return [int(child) for child in text.read_text().split()]
    except OSError:
        return []


if __name__ == "__main__":
    main()
