"""What a process that saves checkpoints is at, in memory that outlives it: for tests that kill it right there.

`follow_saves` is called in the process; whoever kills it maps the same file. No TensorFlow here.
"""

import itertools
import mmap
import pathlib
import time
from collections.abc import Callable

from imagetrain_trainer.training import checkpoints, local_copies, saving

PHASES = ("copy", "upload", "publish", "collect")
BETWEEN = "between"
POLL_SECONDS = 0.0002  # a fraction of the shortest phase
_BYTES = 32
_NOTHING = f"{BETWEEN} 0".ljust(_BYTES).encode()


class Phases:
    """The phase, and how often it was entered; one process at a time writes them."""

    def __init__(self, path: pathlib.Path) -> None:
        """Map the file, which is made where it is missing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            if file.seek(0, 2) < _BYTES:
                file.write(_NOTHING)
                file.flush()
            self._memory = mmap.mmap(file.fileno(), _BYTES)

    def read(self) -> tuple[str, int]:
        """Return the phase, and how often its process has entered it."""
        phase, count = self._memory[:].decode().split()
        return phase, int(count)

    def write(self, phase: str, count: int = 0) -> None:
        """Set the phase."""
        self._memory[:] = f"{phase} {count}".ljust(_BYTES).encode()

    def wait_for(self, phase: str, *, first: int = 1, while_: Callable[[], bool]) -> bool:
        """Return once the phase is entered for the `first` time or a later one; False when `while_` ends before."""
        while not self._is_at(phase, first):
            if not while_():
                return False
            time.sleep(POLL_SECONDS)
        return True

    def _is_at(self, phase: str, first: int) -> bool:
        met, count = self.read()
        return met == phase and count >= first

    def follow(self, owner: object, method: str, phase: str) -> None:
        """Let a method of an object or class set the phase whenever it is called."""
        inner: Callable[..., object] = getattr(owner, method)
        counter = itertools.count(1)

        def told(*arguments: object, **options: object) -> object:
            self.write(phase, next(counter))
            try:
                return inner(*arguments, **options)
            finally:
                self.write(BETWEEN)

        setattr(owner, method, told)


def follow_saves(path: pathlib.Path) -> None:
    """Let this process tell what its saver is at."""
    phases = Phases(path)
    phases.write(BETWEEN)
    phases.follow(local_copies.LocalCopies, "write", "copy")
    phases.follow(saving.Saver, "_upload", "upload")
    phases.follow(checkpoints.CheckpointStore, "publish", "publish")
    phases.follow(checkpoints.CheckpointStore, "collect_garbage", "collect")
