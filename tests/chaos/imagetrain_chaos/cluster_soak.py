"""A long job on a real Kubernetes under faults of every kind: `python -m imagetrain_chaos.cluster_soak --minutes M`.

A cluster of two nodes is brought up for it, with an operator and an S3 server. Processes in pods are killed, frozen,
blocked and run out of memory; pods are deleted and evicted, nodes drained, reclaimed, restarted, killed and cut off;
the operator is killed and stopped, and the API server, the S3 server and the name server fall silent. What the job
tells of each is held against what was done. At its end the model must be that of a job to which nothing happened (to
1e-5); no object, process or half checkpoint may be left when the job is deleted; operator and supervisors must have
stayed small and flat. The same seed plans the same faults. The exit status is 1 when anything is wrong.
"""

import argparse
import collections
import contextlib
import math
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from imagetrain_chaos import (
    cluster_faults,
    cluster_run,
    cluster_site,
    final_state,
    jobs,
    leaks,
    plan,
    records,
    runs,
    sizes,
    soak,
)
from imagetrain_cluster import wait

PACE_SECONDS = 0.1
STEPS_PER_MINUTE = 120  # of a job that is paced and disturbed so
GAP_STEPS = 40  # from one fault to the next, on average
OPERATOR_BYTES = 120 << 20  # the goal
_FIRST_STEP = 30
_CLOSING_STEPS = 60
_START_SECONDS = 300.0
_DIFFERENCE = 1e-5
_LEFT_SECONDS = 120.0
_WORKER_KINDS = "pods,jobs,services,configmaps,secrets,persistentvolumeclaims,poddisruptionbudgets,leases"


def main() -> None:
    """Run the soak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100000)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--kinds", nargs="+", default=sorted(plan.ON_CLUSTER), metavar="KIND")
    arguments = parser.parse_args()
    steps = math.ceil(arguments.minutes * STEPS_PER_MINUTE)
    with cluster_site.running() as site:
        wrong = endure(site, arguments.seed, arguments.kinds, steps=steps, minutes=arguments.minutes)
    soak.say("\n".join(wrong) or "nothing is wrong")
    sys.exit(bool(wrong))


def endure(
    site: cluster_site.Site, seed: int, kinds: Sequence[str], *, steps: int, minutes: float, most: int | None = None
) -> list[str]:
    """Run an undisturbed job and a disturbed one; return what is wrong, one line each.

    Args:
        site: what they live among.
        seed: of the faults.
        kinds: of them, names of `plan.ON_CLUSTER`.
        steps: of each job, but for the rest of an epoch; the faults are spread over them.
        minutes: after so many no fault comes any more.
        most: faults; None: as many as there are steps and minutes for.
    """
    epochs = math.ceil((_FIRST_STEP + steps + _CLOSING_STEPS) / jobs.STEPS_PER_EPOCH)
    straight = _apply(site, "straight", epochs, pace_seconds=0.0)
    reference, _ = _finish(site, straight, 60 * minutes)
    straight.delete()
    last_step = epochs * jobs.STEPS_PER_EPOCH - _CLOSING_STEPS
    soak.say(f"seed {seed}: the undisturbed job is done; faults come up to step {last_step}")
    planned = plan.plan_soak(seed, kinds, workers=2, first_step=_FIRST_STEP, gap_steps=GAP_STEPS, last_step=last_step)
    run, began = _apply(site, "soak", epochs, pace_seconds=PACE_SECONDS), time.monotonic()
    done = cluster_faults.Happenings(run, site)
    with _measured(site, run) as seen:
        try:
            for fault in planned[:most]:
                if run.step >= last_step or time.monotonic() - began > 60 * minutes:
                    break
                known = len(run.failures())
                soak.say(f"{time.monotonic() - began:>6.0f} s {run.step:>6} {fault}")
                done.happen(fault)
                for record in run.failures()[known:]:
                    soak.say(f"  {record}")
            state, leaked = _finish(site, run, 60 * minutes)
        except runs.RunFailedError as error:
            return [*done.find_wrong(), str(error)]
    difference = final_state.largest_difference(reference, state)
    counts = collections.Counter(_describe(record) for record in run.failures())
    soak.say(
        f"{len(done)} faults in {(time.monotonic() - began) / 60:.0f} minutes; largest difference {difference:.2g}"
    )
    soak.say(", ".join(f"{what} {count}" for what, count in sorted(counts.items())))
    soak.say("\n".join(map(str, seen)))
    run.delete()
    growth = [line for each in seen for line in each.find_growth()]
    wrong = [*done.find_wrong(), *leaked, *_find_left(site, run), *growth]
    return [*wrong, f"the model differs by {difference:.3g}"] if difference > _DIFFERENCE else wrong


def _describe(record: records.Record) -> str:
    return f"{record.reason} ({'in place' if record.is_in_place else 'new attempt'})"


def _apply(site: cluster_site.Site, name: str, epochs: int, *, pace_seconds: float) -> cluster_run.ClusterRun:
    site.own.apply(cluster_run.build_job(site.own, name, epochs=epochs, pace_seconds=pace_seconds))
    run = cluster_run.ClusterRun(site.own, name)
    run.wait(lambda status: status.get("phase") == "Training", "the first step", _START_SECONDS)
    return run


def _finish(
    site: cluster_site.Site, run: cluster_run.ClusterRun, seconds: float
) -> tuple[final_state.FinalState, list[str]]:
    """Wait for the job's good end; return its last checkpoint, and what it should not have left beside that."""
    status = run.wait(lambda status: status.get("phase") == "Succeeded", "the end", _START_SECONDS + seconds)
    output_uri, run_id = f"{site.output_uri}{run.name}/", status["runId"]
    halves = [f"half a checkpoint: {folder}" for folder in leaks.find_aborted_saves(output_uri, run_id)]
    return final_state.load(output_uri, run_id), halves


def _find_left(site: cluster_site.Site, run: cluster_run.ClusterRun) -> list[str]:
    """Return one line for each object and process that a deleted job has left after a while."""

    def find() -> list[str]:
        chosen = [f"--namespace={site.own.namespace}", f"--selector=imagetrain.dev/job={run.name}", "--output=name"]
        objects = site.cluster.kubectl("get", _WORKER_KINDS, *chosen).split()
        return [*objects, *(f"process {each.pid}: {each.command!r}" for each in run.processes())]

    deadline = time.monotonic() + _LEFT_SECONDS
    while (found := find()) and time.monotonic() < deadline:
        time.sleep(wait.POLL_SECONDS)
    return [f"left {_LEFT_SECONDS:g} s after the job: {each}" for each in found]


@contextlib.contextmanager
def _measured(site: cluster_site.Site, run: cluster_run.ClusterRun) -> Iterator[tuple[sizes.Sizes, sizes.Sizes]]:
    """Measure the operator and the job's supervisors until the block ends."""
    operators, supervisors = sizes.Sizes("operator", OPERATOR_BYTES), sizes.Sizes("supervisor", soak.SUPERVISOR_BYTES)
    over = threading.Event()

    def measure() -> None:
        while not over.wait(sizes.EVERY_SECONDS):
            now = time.monotonic()
            operators.add(now, [site.operator.pid])
            supervisors.add(now, [each.pid for each in run.processes() if each.is_supervisor])

    thread = threading.Thread(target=measure)
    thread.start()
    try:
        yield operators, supervisors
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    main()
