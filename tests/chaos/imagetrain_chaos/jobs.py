"""The job of the chaos runs: small_cnn behind a gate, on generated images of 8 x 8 pixels."""

import pathlib
from typing import Any

import numpy as np
import yaml

from imagetrain_api import names
from imagetrain_trainer.data import pack

STEPS_PER_EPOCH = 20
BATCH = 48
_CLASSES = 4
_RECORDS = STEPS_PER_EPOCH * BATCH * 5 // 3  # of which three fifths are trained on
PACE_SECONDS = 0.05
"""Each step is held up so long: the model alone would be through before any fault."""

MODEL = {"architecture": "chaos_cnn", "module": "imagetrain_chaos.chaos_model", "inputShape": [8, 8, 1]}
"""`spec.model`."""


def pack_images(folder: pathlib.Path) -> str:
    """Pack noise over a pattern a class, so that there is something to learn; return the data set's URI."""
    random = np.random.default_rng(0)
    labels = np.arange(_RECORDS) % _CLASSES
    patterns = random.integers(0, 200, (_CLASSES, 8, 8, 1))
    images = (patterns[labels] + random.integers(0, 56, (_RECORDS, 8, 8, 1))).astype(np.uint8)
    folder.mkdir(parents=True)
    np.savez(folder / "images.npz", x=images, y=labels)
    pack.pack(folder / "images.npz", str(folder / "set"), pack.PackOptions())
    return f"{(folder / 'set').as_uri()}/"


def build_training(epochs: int) -> dict[str, Any]:
    """Return `spec.training` of a run of `epochs` * STEPS_PER_EPOCH steps."""
    return {
        "epochs": epochs,
        "globalBatchSize": BATCH,
        "stepsPerExecution": 2,
        "seed": 3,
        "optimizer": {"learningRate": 0.002},
        "augmentation": {"flip": "horizontal", "shift": 0.1},
    }


def build_manifest(data_uri: str, output_uri: str, *, workers: int, epochs: int, **spec: Any) -> dict[str, Any]:
    """Return the manifest of a run of `epochs` * STEPS_PER_EPOCH steps."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": "chaos"},
        "spec": {
            "workers": workers,
            "data": {"uri": data_uri},
            "model": dict(MODEL),
            "training": build_training(epochs),
            "checkpoint": {"everySeconds": 1},
            "output": {"uri": output_uri, "formats": ["tflite_float32"], "gate": {"force": True}},
            **spec,
        },
    }


def write_manifest(path: pathlib.Path, document: dict[str, Any]) -> pathlib.Path:
    """Write a manifest."""
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path
