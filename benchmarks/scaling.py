"""Two workers on one core each against one worker on one core, with the same batch a worker.

    python benchmarks/scaling.py [--batch 128] [--steps 8] [--rounds 3] [--batch-normalization local]

Runs real worker groups in turn and prints images/s of each. Two cores that are both busy are slower than one alone
(shared memory bandwidth, cache, clock), so two separate workers side by side, which never speak to each other, are
measured too: no group can be faster than they are. Wants two idle cores.
"""

import argparse
import concurrent.futures
import functools
import pathlib
import statistics
import tempfile

import groups

SIDE = 96
RECORDS = 2560


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=128, help="images of one worker's step")
    parser.add_argument("--steps", type=int, default=8, help="steps that are timed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-normalization", default="local", choices=("synchronized", "local"))
    arguments = parser.parse_args()
    ratios, efficiencies = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        data = groups.pack_random(folder, records=RECORDS, height=SIDE, width=SIDE, channels=3)
        for number in range(arguments.rounds):
            start = functools.partial(measure, data, folder, arguments=arguments)
            alone = start(f"alone-{number}", [{0}])
            with concurrent.futures.ThreadPoolExecutor() as pool:
                apart = [pool.submit(start, f"apart-{number}-{core}", [{core}]) for core in (0, 1)]
                ceiling = sum(each.result() for each in apart)
            group = start(f"group-{number}", [{0}, {1}])
            ratios.append(group / alone)
            efficiencies.append(group / ceiling)
            print(
                f"images/s: one worker {alone:.1f}, two apart {ceiling:.1f} ({ceiling / alone:.2f}x), "
                f"group of two {group:.1f} ({ratios[-1]:.2f}x, {efficiencies[-1]:.3f} of two apart)",
                flush=True,
            )
    print(
        f"median: {statistics.median(ratios):.2f}x one worker, {statistics.median(efficiencies):.3f} of two apart; "
        f"batch {arguments.batch} a worker, {arguments.batch_normalization} batch normalization"
    )


def measure(
    data: pathlib.Path, folder: pathlib.Path, run_id: str, cores: list[set[int]], arguments: argparse.Namespace
) -> float:
    """Return the group's images/s over some steps after its first two."""
    training = groups.build_job(
        data,
        folder / "out",
        workers=len(cores),
        model={"architecture": "mobilenet_v2", "inputShape": [SIDE, SIDE, 3]},
        training={
            "epochs": 100,
            "globalBatchSize": arguments.batch * len(cores),
            "batchNormalization": arguments.batch_normalization,
        },
        checkpoint={"everySeconds": 3600},
    )
    with groups.running(training, folder / run_id, run_id, cores) as group:
        first = group.wait_until(lambda report: sum(report.step_seconds_buckets) >= 2)
        last = group.wait_until(
            lambda report: sum(report.step_seconds_buckets) >= sum(first.step_seconds_buckets) + arguments.steps
        )
        return (last.images - first.images) / (last.step_seconds_sum - first.step_seconds_sum)


if __name__ == "__main__":
    main()
