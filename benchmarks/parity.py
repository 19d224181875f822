"""Two workers against one: the same manifest, 20 steps of SGD, weights and BatchNorm statistics compared.

    python benchmarks/parity.py [--learning-rate 3e-5]

Prints the largest difference of any weight and of any BatchNorm statistic, and how far training moved the weights
meanwhile. The order of records and their pixels are compared bit for bit by tests/training/test_inputs.py.

The learning rate is small because float32 training is chaotic: at 1e-3, changing one kernel of the same net by one part
in ten million moves some weight by 4e-4 within these 20 steps, on one worker alone. A wrong gradient or statistic shows
at any learning rate: it would be as large as the movement.
"""

import argparse
import pathlib
import sys
import tempfile

import keras
import numpy as np

import groups
from imagetrain_trainer.models import registry
from imagetrain_trainer.training import checkpoints

STEPS = 20
BATCH = 64
LIMIT = 1e-5


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learning-rate", type=float, default=3e-5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        data = groups.pack_random(folder, records=STEPS * BATCH * 10 // 8, height=28, width=28, channels=1)
        states = []
        for workers, cores in ((1, [{0, 1}]), (2, [{0}, {1}])):
            training = groups.build_job(
                data,
                folder / "out",
                workers=workers,
                model={"architecture": "small_cnn", "inputShape": [28, 28, 1], "options": {"dropout": 0.0}},
                training={
                    "epochs": 1,
                    "globalBatchSize": BATCH,
                    "seed": 1,
                    "optimizer": {"name": "sgd", "learningRate": arguments.learning_rate},
                    "augmentation": {"flip": "horizontal", "shift": 0.1, "rotationDegrees": 10},
                },
            )
            run_id = f"workers-{workers}"
            groups.run_to_end(training, folder / run_id, run_id, cores)
            states.append(groups.load_final_state(folder / "out", run_id))
    one, two = states
    if one.step != STEPS or two.step != STEPS:
        raise RuntimeError(f"expected {STEPS} steps, got {one.step} and {two.step}")
    largest = {"weights": 0.0, "BatchNorm statistics": 0.0}
    for key, array in one.arrays.items():
        if key.startswith("model/") and array.dtype == np.float32:
            kind = "BatchNorm statistics" if "/moving_" in key else "weights"
            largest[kind] = max(largest[kind], float(np.abs(array - two.arrays[key]).max()))
    print(f"weights moved by up to {measure_movement(one.arrays):.1e}")
    for kind, difference in largest.items():
        print(f"{kind}: largest difference after {STEPS} steps {difference:.2e} (limit {LIMIT:.0e})")
    sys.exit(max(largest.values()) > LIMIT)


def measure_movement(arrays: checkpoints.Arrays) -> float:
    """Return the farthest way of any weight from where the job's seed put it."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    model = registry.build_model("small_cnn", input_shape=(28, 28, 1), classes=10, options={"dropout": 0.0})
    trained = [array for key, array in sorted(arrays.items()) if key.startswith("model/")]
    pairs = zip(model.variables, trained, strict=True)
    return max(float(np.abs(np.asarray(v) - array).max()) for v, array in pairs if v.trainable)


if __name__ == "__main__":
    main()
