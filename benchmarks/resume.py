"""Three epochs straight against the same run stopped at three random steps: final weights must be equal to the bit.

    python benchmarks/resume.py [--seed 0]

One worker. Each stop is a SIGTERM to the worker; the next one resumes from the checkpoint that the stop saved.
"""

import argparse
import pathlib
import random
import sys
import tempfile

import numpy as np

import groups
from imagetrain_api import exit_codes

EPOCHS, STEPS_PER_EPOCH, BATCH = 3, 40, 32


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    total = EPOCHS * STEPS_PER_EPOCH
    stops = sorted(random.Random(seed).sample(range(2, total - 10), 3))  # noqa: S311 - chance, not secrecy
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        data = groups.pack_random(folder, records=STEPS_PER_EPOCH * BATCH * 10 // 8, height=28, width=28, channels=1)
        training = groups.build_job(
            data,
            folder / "out",
            model={"architecture": "small_cnn", "inputShape": [28, 28, 1], "options": {"dropout": 0.3}},
            training={
                "epochs": EPOCHS,
                "globalBatchSize": BATCH,
                "seed": 1,
                "stepsPerExecution": 2,
                "schedule": {"name": "cosine", "warmupEpochs": 1},
                "augmentation": {"flip": "horizontal", "shift": 0.1, "rotationDegrees": 10, "zoom": 0.1},
                "earlyStopping": {"patienceEpochs": 10},
            },
        )
        groups.run_to_end(training, folder / "straight", "straight", [{0, 1}])
        stopped_at = []
        for number, step in enumerate(stops):
            with groups.running(training, folder / f"part-{number}", "stopped", [{0, 1}]) as group:
                group.wait_until(lambda report, step=step: report.step >= step)  # type: ignore[misc]  # bound now
                group.stop()
                outcome = group.outcome()
                if outcome is None or outcome.exit_code != exit_codes.ExitCode.PREEMPTED:
                    raise RuntimeError(f"expected a stop, got {outcome}")
                stopped_at.append(outcome.message)
        groups.run_to_end(training, folder / "rest", "stopped", [{0, 1}])
        straight = groups.load_final_state(folder / "out", "straight")
        stopped = groups.load_final_state(folder / "out", "stopped")
    print("\n".join(stopped_at))
    different = [key for key, array in straight.arrays.items() if not np.array_equal(array, stopped.arrays[key])]
    print(f"{len(straight.arrays)} variables after {straight.step} steps, {len(different)} differ (goal 0)")
    sys.exit(bool(different) or straight.step != stopped.step)


if __name__ == "__main__":
    main()
