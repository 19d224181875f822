"""The JSON lines of a running `imagetrain run --json`."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any


def read(process: "subprocess.Popen[str]") -> Iterator[dict[str, Any]]:
    """Yield the lines as they come."""
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


def wait_for_step(process: "subprocess.Popen[str]", step: int) -> dict[str, Any]:
    """Return the first progress of training at or past `step`."""
    for event in read(process):
        if event["event"] == "progress" and event["progress"]["step"] >= step:
            progress: dict[str, Any] = event["progress"]
            return progress
    assert process.stderr is not None
    raise AssertionError(f"the command ended: {process.stderr.read()}")
