"""Fixtures of the end-to-end tests: tiny real data, and the real command in processes of its own."""

import collections.abc
import dataclasses
import json
import os
import pathlib
import subprocess
import sysconfig
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
import yaml

COMMAND = pathlib.Path(sysconfig.get_path("scripts")) / "imagetrain"
TIMEOUT_SECONDS = 110  # of pytest's 120


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A command that has ended."""

    status: int
    output: str
    errors: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of `--json`."""
        return [json.loads(line) for line in self.output.splitlines()]


class Imagetrain:
    """Runs the command; its runs lie in `runs`."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.runs = folder / "cache" / "imagetrain" / "runs"
        self._started: list[subprocess.Popen[str]] = []
        self._environment = {"XDG_CACHE_HOME": str(folder / "cache")}

    def start(
        self, *arguments: object, prefix: collections.abc.Sequence[str] = (), **environment: str
    ) -> "subprocess.Popen[str]":
        """Start a command."""
        process = subprocess.Popen(
            [*prefix, str(COMMAND), *(str(word) for word in arguments)],
            env={**os.environ, **self._environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def close(self) -> None:
        """End what still runs; its workers end with it."""
        for process in self._started:
            process.kill()
            process.communicate()

    def __call__(self, *arguments: object, prefix: collections.abc.Sequence[str] = (), **environment: str) -> Finished:
        """Run a command to its end."""
        return self.wait(self.start(*arguments, prefix=prefix, **environment))

    def wait(self, process: "subprocess.Popen[str]") -> Finished:
        """Wait for a started command."""
        output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
        return Finished(status=process.returncode, output=output, errors=errors)

    def logs(self) -> str:
        """Return the logs of all runs."""
        return "\n".join(path.read_text() for path in sorted(self.runs.glob("*/logs/*.log")))


@pytest.fixture
def imagetrain(tmp_path: pathlib.Path) -> collections.abc.Iterator[Imagetrain]:
    """Return the command, with a cache of its own."""
    command = Imagetrain(tmp_path)
    yield command
    command.close()


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return an .npz file of 400 of scikit-learn's digits, 8 x 8 pixels."""
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    found = sklearn.datasets.load_digits()
    np.savez(path, x=(found.images[:400] * 15).astype(np.uint8), y=found.target[:400])
    return path


@pytest.fixture
def local_data(imagetrain: Imagetrain, digits: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a folder with the digits packed."""
    folder = tmp_path / "data"
    assert imagetrain("data", "pack", digits, folder).status == 0
    return folder


WriteJob = collections.abc.Callable[..., pathlib.Path]


@pytest.fixture
def write_job(tmp_path: pathlib.Path) -> WriteJob:
    """Return a function that writes a manifest of a small job and returns its path."""

    def write(data_uri: str, output_uri: str, **spec: Any) -> pathlib.Path:
        document = {
            "apiVersion": "imagetrain.dev/v1alpha1",
            "kind": "ImageTrainingJob",
            "metadata": {"name": "tiny"},
            "spec": {
                "workers": 2,
                "data": {"uri": data_uri},
                "model": {"architecture": "small_cnn", "inputShape": [8, 8, 1], "options": {"width": 8}},
                "training": {"epochs": 2, "globalBatchSize": 48, "optimizer": {"learningRate": 0.005}},
                "output": {"uri": output_uri, "formats": ["tflite_float32"], "gate": {"force": True}},
                **spec,
            },
        }
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    return write
