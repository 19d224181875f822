"""Kill a run with SIGKILL at random moments of its saves against a real S3 server; the newest checkpoint always loads.

    python benchmarks/checkpoint_kill.py --server versitygw --kills 100

One run, a generation after the other. Each saves without a pause, in the background as training does, and keeps two
checkpoints, so that copying, uploading, publishing and collecting garbage are always under way; every second writes its
state in two shares. Each is killed: in turn at a random moment of its life, and at one within the copying, uploading,
publishing and collecting of a random save, for the last two are over in milliseconds. Then the newest visible
checkpoint must load with the right bytes, without falling back, and so must every local copy; the next generation must
go on from that step or a later one. After every third kill a rival takes the run over while it saves: the old one must
end as fenced, and never be the newest again.
`make versitygw` builds the server; moto (`--server moto`) needs nothing.
"""

import argparse
import collections
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "chaos"))

import publisher_kill
from imagetrain_api import exit_codes, names
from imagetrain_chaos import save_phases
from imagetrain_trainer import errors
from imagetrain_trainer.storage import store
from imagetrain_trainer.training import checkpoints, local_copies, restoring, saving, state_layout

BUCKET = "kill-benchmark"
RUN = "run-a"
KEEP = 2
SAVES = 12  # of one generation
STEPS_BETWEEN = 10
ARRAY_VALUES = 2_500_000  # 10 MB twice: in one object it is uploaded in parts, in two shares at once
AIMS = ("anywhere", *save_phases.PHASES)
COMPLETE_SECONDS = 60.0

require = publisher_kill.require


def main() -> int:
    """Run the benchmark; the exit status is 0 when the invariant held throughout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=("versitygw", "moto"), default="versitygw")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", nargs=2, metavar=("FOLDER", "SHARES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        return train(pathlib.Path(arguments.train[0]), int(arguments.train[1]))
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        with publisher_kill.run_server(arguments.server, folder) as server:
            os.environ.update(server.environment())
            server.create_bucket(BUCKET)
            kills = Kills(folder / "work", arguments)
            try:
                return kills.run()
            finally:
                kills.close()


def open_saved() -> checkpoints.CheckpointStore:
    """Open the run's checkpoints."""
    output = store.open_store(f"s3://{BUCKET}/models/")
    return checkpoints.CheckpointStore(output.child(names.run_prefix(RUN)), keep=KEEP, job="kill")


def build_arrays(step: int) -> dict[str, np.ndarray]:
    """Return the state of a step, which a reader can tell from any other."""
    return {"first": np.full(ARRAY_VALUES, step, np.float32), "second": np.full(ARRAY_VALUES, -step, np.float32)}


def train(folder: pathlib.Path, shares: int) -> int:
    """Run one generation, as the process that is to be killed: on a line from its standard input."""
    phases = save_phases.Phases(folder / "phase")
    saved, copies = open_saved(), local_copies.LocalCopies(folder)
    phases.follow(copies, "write", "copy")
    phases.follow(saved, "publish", "publish")
    phases.follow(saved, "collect_garbage", "collect")
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        save_all(saved, copies, phases, shares)
    except errors.TrainerError as error:
        return error.exit_code
    print("done", flush=True)
    return 0


def save_all(
    saved: checkpoints.CheckpointStore,
    copies: local_copies.LocalCopies,
    phases: save_phases.Phases,
    shares: int,
) -> None:
    """Go on from the newest checkpoint, and save without a pause."""
    start = restoring.Start(rank=0, generation=1, incarnation=os.urandom(4).hex(), resume_step=None)
    restored = restoring.Restorer(saved, copies, start, lambda values: [list(values)]).restore()
    step = restored.checkpoint.step if restored.checkpoint else 0
    print(restored.generation, step, flush=True)
    specs = state_layout.describe_arrays(build_arrays(0))
    savers = [
        saving.Saver(
            saved if rank == 0 else open_saved(),
            copies if rank == 0 else None,
            saving.Share(rank=rank, workers=shares, generation=restored.generation),
            specs,
            sharded_bytes=0,
        )
        for rank in range(shares)
    ]
    phases.follow(savers[0], "_upload", "upload")
    for _ in range(SAVES):
        step += STEPS_BETWEEN
        for saver in reversed(savers):
            saver.save(step, build_arrays(step), {"step": step})
        savers[0].wait()


class Kills:
    """The run and what became of it."""

    def __init__(self, folder: pathlib.Path, arguments: argparse.Namespace) -> None:
        self._folder, self._arguments = folder, arguments
        self._phases = save_phases.Phases(folder / "phase")
        self._random = random.Random(arguments.seed)  # noqa: S311 - the moments only have to differ
        self._processes: list[subprocess.Popen[str]] = []
        self._met: collections.Counter[str] = collections.Counter()
        self._usual: dict[str, float] = {}  # seconds by phase
        self._newest = 0
        self._read_back = 0

    def run(self) -> int:
        """Kill, look, go on; print what was found."""
        began = time.monotonic()
        self._measure()
        print(
            f"{self._arguments.server}: {SAVES} saves of {8 * ARRAY_VALUES / 1e6:.1f} MB take "
            f"{self._usual['anywhere']:.2f} s; one is "
            + ", ".join(f"in {phase} {1000 * self._usual[phase]:.1f} ms" for phase in AIMS[1:])
        )
        for number in range(self._arguments.kills):
            shares = 1 + (number % 2)
            self._kill(AIMS[number % len(AIMS)], shares=shares)
            self._check()
            if number % 3 == 2:
                self._overtake(self._random.uniform(0, self._usual["anywhere"]), shares=shares)
                self._check()
        left = sum(1 for _ in open_saved().objects.list())
        late = self._met["rival too late"]
        print(f"  kills {self._arguments.kills}")
        print(f"  generations overtaken by a rival {self._met['rival']}, that had ended before {late}")
        for phase in ("start", "copy", "upload", "publish", "collect", "between", "too late"):
            print(f"  killed: {phase:9} {self._met[phase]}")
        print(f"  newest step {self._newest}, checkpoints and copies read back {self._read_back}, objects left {left}")
        print("  newest checkpoints that did not load as they are  0")
        print(f"  seconds {time.monotonic() - began:.0f}")
        return 0

    def close(self) -> None:
        """End what is left."""
        for process in self._processes:
            process.kill()
            process.wait(COMPLETE_SECONDS)

    def _measure(self) -> None:
        """Learn how long a generation and the phases of a save usually take."""
        seen: dict[str, list[float]] = collections.defaultdict(list)
        for _ in range(3):
            process = self._start(1)
            begun = since = time.monotonic()
            self._go(process)
            was = self._phases.read()
            while process.poll() is None:
                if (met := self._phases.read()) != was:
                    seen[was[0]].append(time.monotonic() - since)
                    was, since = met, time.monotonic()
                time.sleep(save_phases.POLL_SECONDS)
            require(process.wait(COMPLETE_SECONDS) == 0, "an undisturbed generation failed")
            seen["anywhere"].append(time.monotonic() - begun)
            self._check()
        self._usual = {phase: statistics.median(seconds) for phase, seconds in seen.items()}
        require(set(AIMS) <= set(self._usual), "a phase of a save was never seen")

    def _start(self, shares: int, folder: pathlib.Path | None = None) -> "subprocess.Popen[str]":
        command = [sys.executable, __file__, "--train", str(folder or self._folder), str(shares)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._processes.append(process)
        require(process.stdout and process.stdout.readline() == "ready\n", "a generation did not start")
        return process

    def _go(self, process: "subprocess.Popen[str]") -> None:
        self._phases.write("start")
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()

    def _kill(self, aim: str, *, shares: int) -> None:
        process = self._start(shares)
        self._go(process)
        if aim != "anywhere":
            first = self._random.randint(1, SAVES - 1)
            self._phases.wait_for(aim, first=first, while_=lambda: process.poll() is None)
        time.sleep(self._random.uniform(0, self._usual[aim]))
        has_ended = process.poll() is not None
        process.send_signal(signal.SIGKILL)
        process.wait(COMPLETE_SECONDS)
        self._met["too late" if has_ended else self._phases.read()[0]] += 1
        self._check_start(process)

    def _overtake(self, moment: float, *, shares: int) -> None:
        old, rival = self._start(shares), self._start(shares, self._folder / "rival")  # on another machine
        self._go(old)
        time.sleep(moment)
        has_ended = old.poll() is not None
        self._go(rival)
        status = old.wait(COMPLETE_SECONDS)
        rival_status = rival.wait(COMPLETE_SECONDS)
        # One that ended just before the other took the fence has done nothing wrong, and whoever took it last goes on.
        require(status in (0, exit_codes.ExitCode.FENCED), f"an overtaken generation ended with {status}")
        require(rival_status in (0, exit_codes.ExitCode.FENCED), f"the rival ended with {rival_status}")
        require(0 in (status, rival_status), "both generations were fenced")
        self._met["rival" if not has_ended else "rival too late"] += 1
        generations = [self._check_start(old), self._check_start(rival)]
        generation = generations[0 if rival_status else 1]
        newest = open_saved().places()[-1]
        require(newest.generation == generation, f"the newest is of generation {newest.generation}, not {generation}")

    def _check_start(self, process: "subprocess.Popen[str]") -> int:
        """Look where a generation went on; return its number, 0 when it was killed before it knew."""
        assert process.stdout is not None
        words = process.stdout.readline().split()
        process.stdout.close()
        if len(words) < 2:
            return 0
        require(int(words[1]) >= self._newest, f"went on from step {words[1]} though {self._newest} was complete")
        return int(words[0])

    def _check(self) -> None:
        """Read the newest checkpoint and every local copy."""
        saved = open_saved()
        places = saved.places()
        if places:
            checkpoint = saved.load_place(places[-1])
            require(checkpoint.step >= self._newest, f"step {checkpoint.step} follows {self._newest}")
            self._newest = checkpoint.step
            self._compare(checkpoint)
        copies = local_copies.LocalCopies(self._folder)
        for step in local_copies.local_steps(self._folder):
            manifest, parts = copies.read(step)
            arrays = [checkpoints.decode_arrays(data, str(step)) for data in parts]
            self._compare(checkpoints.build_checkpoint(manifest, arrays))

    def _compare(self, checkpoint: checkpoints.Checkpoint) -> None:
        for name, array in build_arrays(checkpoint.step).items():
            require(np.array_equal(checkpoint.arrays[name], array), f"step {checkpoint.step} has wrong bytes")
        self._read_back += 1


if __name__ == "__main__":
    sys.exit(main())
