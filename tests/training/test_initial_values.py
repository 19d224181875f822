"""Two real workers that begin with values of their own."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.timeout(240)

WORKER = """
import json, sys
import keras, numpy as np, tensorflow as tf
from imagetrain_trainer.training import initial_values

rank, seed = int(sys.argv[1]), int(sys.argv[2])
strategy = tf.distribute.MultiWorkerMirroredStrategy()
random = np.random.default_rng(seed)
sent = []
with initial_values.not_sent(strategy), strategy.scope():
    variables = {
        "kernel": keras.Variable(random.normal(size=(3, 2)), dtype="float32"),
        "seed": keras.Variable(np.full(2, 2**32 - 1 - seed), dtype="uint32", trainable=False),
        "count": keras.Variable(seed, dtype="int64", trainable=False),
        "half": keras.Variable(random.normal(size=3), dtype="bfloat16"),
    }
    before = np.asarray(variables["kernel"]).tolist()
initial_values.share(strategy, rank, 2, variables)
found = {name: np.asarray(variable).astype(float).tolist() for name, variable in variables.items()}
with strategy.scope():
    later = keras.Variable(float(rank), dtype="float32")  # is broadcast again
print(json.dumps({"before": before, "found": found, "later": float(np.asarray(later))}), flush=True)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run_workers(seeds: tuple[int, int]) -> list[dict[str, Any]]:
    """Return what each worker found."""
    addresses = [f"127.0.0.1:{free_port()}" for _ in seeds]
    with contextlib.ExitStack() as stack:
        workers = []
        for rank, seed in enumerate(seeds):
            group = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
            worker = subprocess.Popen(
                [sys.executable, "-c", WORKER, str(rank), str(seed)],
                env={**os.environ, "TF_CONFIG": json.dumps(group)},
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.callback(worker.wait)
            stack.callback(worker.kill)
            workers.append(worker)
        return [json.loads(worker.communicate(timeout=200)[0]) for worker in workers]


def test_values_that_differ_become_those_of_the_chief() -> None:
    chief, other = run_workers((1, 2))
    assert chief["before"] != other["before"]  # nothing was sent when they were made
    assert other["found"] == chief["found"]
    random = np.random.default_rng(1)
    kernel = random.normal(size=(3, 2)).astype(np.float32)
    assert chief["found"]["kernel"] == kernel.tolist()
    assert chief["found"]["seed"] == [2**32 - 2] * 2
    assert chief["found"]["count"] == 1
    assert other["later"] == chief["later"] == 0.0
