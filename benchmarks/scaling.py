"""Two workers on one core each against one worker on one core, with the same batch a worker.

    python benchmarks/scaling.py [--batch 64] [--steps 12] [--rounds 3] [--batch-normalization synchronized]

Runs real worker groups in turn and prints images/s of each and their ratio, round by round. Wants two idle cores.
"""

import argparse
import pathlib
import statistics
import tempfile

import groups

SIDE = 96
RECORDS = 2560


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=64, help="images of one worker's step")
    parser.add_argument("--steps", type=int, default=12, help="steps that are timed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-normalization", default="synchronized", choices=("synchronized", "local"))
    arguments = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        data = groups.pack_random(folder, records=RECORDS, height=SIDE, width=SIDE, channels=3)
        for number in range(arguments.rounds):
            rates = [
                measure(data, folder, f"round-{number}-workers-{len(cores)}", cores, arguments)
                for cores in ([{0}], [{0}, {1}])
            ]
            ratios.append(rates[1] / rates[0])
            print(
                f"1 worker {rates[0]:.1f} images/s, 2 workers {rates[1]:.1f} images/s, ratio {ratios[-1]:.3f}",
                flush=True,
            )
    print(
        f"median ratio {statistics.median(ratios):.3f} (goal 1.85), batch normalization {arguments.batch_normalization}"
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
