"""A training process that trains nothing: it does what $STAND_IN says. For process control only; it has no TensorFlow.

exit:N      ends with status N
raise       ends by an exception
kill:N      sends itself signal N
sleep       says "ready" and stays
orphan      leaves a child that outlives it, tells its process id, and ends
tell        prints what it finds about itself as JSON
"""

import itertools
import json
import math
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import NoReturn

from imagetrain_api import exit_codes, progress
from imagetrain_trainer.worker import environment, outcomes, progress_block


def main() -> None:
    """Act."""
    word, _, number = _action().partition(":")
    if word in _REPORTING:
        _REPORTING[word]()
    if word == "exit":
        sys.exit(int(number))
    if word == "raise":
        raise RuntimeError("as asked")
    if word == "kill":
        os.kill(os.getpid(), int(number))
    if word == "sleep":
        _say("ready")
        time.sleep(3600)
    if word == "orphan":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
        _say(child.pid)
    if word == "tell":
        _say(json.dumps(_describe()))


def _action() -> str:
    generation, rank = os.environ.get("IMAGETRAIN_GENERATION", "1"), os.environ.get("IMAGETRAIN_RANK", "0")
    actions: dict[str, str] = json.loads(os.environ.get("STAND_IN_GENERATIONS", "{}"))
    found = actions.get(f"{generation}.{rank}", actions.get(generation))
    return os.environ["STAND_IN"] if found is None else found


def _stay(phase: str, step: int, *, ticks: float = math.inf) -> None:
    block = progress_block.ProgressBlock(pathlib.Path(os.environ[environment.ENV_PROGRESS_BLOCK]))
    for tick in itertools.count():
        if tick < ticks:
            block.write(progress.Progress(phase=phase, step=step + tick // 20, updated_at=time.time()))
        block.mark_beat(time.time())
        time.sleep(0.05)


def _train() -> None:
    signal.signal(signal.SIGTERM, lambda *_: _end(exit_codes.ExitCode.PREEMPTED, "Stopped; the checkpoint is saved."))
    _stay("training", 5)


def _end(code: exit_codes.ExitCode, message: str, **details: object) -> NoReturn:
    path = pathlib.Path(os.environ[environment.ENV_OUTCOME])
    outcomes.write_outcome(path, outcomes.build_outcome(code, message, **details))
    os._exit(code)


_REPORTING: dict[str, Callable[[], None]] = {
    "train": _train,
    "block": lambda: _stay("training", 5, ticks=60),
    "start": lambda: _stay("starting", 0),
    "done": lambda: _end(exit_codes.ExitCode.DONE, "Published.", summary={"steps": 9}),
    "corrupt": lambda: _end(exit_codes.ExitCode.DATA_CORRUPT, "A shard is damaged."),
    "full": lambda: _end(exit_codes.ExitCode.DISK_FULL, "The disk is full."),
}


def _say(text: object) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _describe() -> dict[str, object]:
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "session": os.getsid(0),
        "variables": dict(os.environ),
        "temporary": tempfile.gettempdir(),
        "random": random.random(),
        "interrupt": signal.getsignal(signal.SIGINT) == signal.default_int_handler,
        "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd")),  # noqa: PTH208
    }


if __name__ == "__main__":
    main()
