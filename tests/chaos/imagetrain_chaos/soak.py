"""A long run under faults of every kind, drawn from a seed: `python -m imagetrain_chaos.soak --seed N --minutes M`.

The run has two workers in network namespaces of their own, its data and output on an S3 server behind a proxy that
fails, a small disk, a memory limit and a clock that jumps. What the run tells of each fault is held against what was
done. At its end the model must be that of a run to which nothing happened (to 1e-5); every process, socket and file
must have gone, and the supervisors must have stayed small and flat.
The same seed plans the same faults. The exit status is 1 when anything is wrong.
"""

import argparse
import contextlib
import math
import os
import pathlib
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

import s3_servers
from imagetrain_chaos import faults, final_state, jobs, plan, runs, sizes, told, trials

_PACE_SECONDS = 0.1
_STEPS_PER_MINUTE = 150  # of a run that is paced and disturbed so
_FIRST_STEP, _GAP_STEPS = 30, 40
_CLOSING_STEPS = 60
_START_SECONDS = 600.0
_DIFFERENCE = 1e-5
SUPERVISOR_BYTES = 60 << 20  # the goal


def main() -> None:
    """Run the soak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100000)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--gap-steps", type=int, default=_GAP_STEPS, help="from one fault to the next, on average")
    parser.add_argument("--kinds", nargs="+", default=sorted(plan.RANK_WIDE | plan.GROUP_WIDE), metavar="KIND")
    arguments = parser.parse_args()
    if reason := trials.missing(arguments.kinds):
        sys.exit(f"The soak takes more than this machine has: {reason}.")
    with tempfile.TemporaryDirectory(prefix="imagetrain-soak-") as name:
        folder = pathlib.Path(name)
        with s3_servers.versitygw_server(folder / "s3") as server:
            os.environ.update(server.environment())
            wrong = soak(arguments, folder, server)
    say("\n".join(wrong) or "nothing is wrong")
    sys.exit(bool(wrong))


def soak(arguments: argparse.Namespace, folder: pathlib.Path, server: s3_servers.VersitygwServer) -> list[str]:
    """Run undisturbed and disturbed; return what is wrong, one line each."""
    jobs.pack_images(folder / "images")
    epochs = max(4, math.ceil(arguments.minutes * _STEPS_PER_MINUTE / jobs.STEPS_PER_EPOCH))
    workers, data = arguments.workers, folder / "images" / "set"
    (folder / "straight").mkdir()
    straight = trials.Trial(folder=folder / "straight", data=data, workers=workers, epochs=epochs, pace_seconds=0.0)
    with trials.started(straight) as running:
        reference = running.finish(timeout_seconds=_START_SECONDS + 60 * arguments.minutes).state
    say(f"seed {arguments.seed}: {epochs * jobs.STEPS_PER_EPOCH} steps; the undisturbed run is done")
    (folder / "soak").mkdir()
    trial = trials.Trial(
        folder=folder / "soak",
        data=data,
        workers=workers,
        epochs=epochs,
        kinds=arguments.kinds,
        pace_seconds=_PACE_SECONDS,
        server=server,
        spec={"recovery": {"maxRestarts": 10000, "stepTimeoutSeconds": 15}},
    )
    last_step = epochs * jobs.STEPS_PER_EPOCH - _CLOSING_STEPS
    planned = plan.plan_soak(
        arguments.seed,
        arguments.kinds,
        workers=workers,
        first_step=_FIRST_STEP,
        gap_steps=arguments.gap_steps,
        last_step=last_step,
    )
    done = list[tuple[plan.Fault, int]]()
    with trials.started(trial) as running, measured(running.run) as seen:
        try:
            for fault in planned:
                if running.run.step >= last_step:  # a fault that waits for its moment delays those behind it
                    break
                say(f"{running.run.step:>7} {fault}")
                done.append((fault, len(running.run.failures())))
                faults.happen([fault], running.run, running.site)
            finished = running.finish([fault for fault, _ in done], _START_SECONDS)
        except runs.RunFailedError as error:
            say(str(seen))
            return [*seen.find_growth(), str(error)]
    for record in finished.records:
        say(f"  {record}")
    difference = final_state.largest_difference(reference, finished.state)
    say(f"{len(done)} faults, {len(finished.records)} recoveries; largest difference {difference:.2g}")
    if finished.met:
        say(
            "killed at " + ", ".join(f"{phase} {count}" for phase, count in sorted(finished.met.items())) + " of a save"
        )
    say(str(seen))
    wrong = [
        *told.find_all_wrong(told.ON_LOCAL_RUN, done, finished.records),
        *finished.leaks,
        *seen.find_growth(),
    ]
    return [*wrong, f"the model differs by {difference:.3g}"] if difference > _DIFFERENCE else wrong


@contextlib.contextmanager
def measured(run: runs.Run) -> Iterator[sizes.Sizes]:
    """Measure the run's supervisors until the block ends."""
    seen, over = sizes.Sizes("supervisor", SUPERVISOR_BYTES), threading.Event()

    def measure() -> None:
        while not over.wait(sizes.EVERY_SECONDS):
            if run.events:
                seen.add(time.monotonic(), [each.pid for each in run.processes() if each.is_supervisor])

    thread = threading.Thread(target=measure)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def say(text: str) -> None:
    """Print now."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
