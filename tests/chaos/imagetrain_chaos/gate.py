"""The files by which a test talks to the gate of each rank (chaos_model.py). No TensorFlow here.

FOLDER/pace               seconds that every step of every rank is held up; else ENV_PACE_SECONDS says it
FOLDER/slow-RANK          seconds more for that rank
FOLDER/block-RANK         the next step blocks in Python; FOLDER/block-RANK.PID says that it does, until it is removed
FOLDER/allocate-RANK      the next step takes memory without end, likewise
FOLDER/saves              what the chief's saver is at (save_phases.py)

A request is taken by one process: the one that is started in its place goes on.
"""

import contextlib
import dataclasses
import os
import pathlib

ENV_FOLDER = "IMAGETRAIN_CHAOS_FOLDER"
ENV_PACE_SECONDS = "IMAGETRAIN_CHAOS_PACE_SECONDS"


@dataclasses.dataclass(frozen=True, slots=True)
class GateFolder:
    """The folder, from both sides."""

    path: pathlib.Path

    def make(self, pace_seconds: float) -> None:
        """Make it, before the run starts."""
        self.path.mkdir(parents=True)
        self.set_pace(pace_seconds)

    def set_pace(self, seconds: float) -> None:
        """Hold every step of every rank up for so long."""
        self._write("pace", str(seconds))

    def slow(self, rank: int, seconds: float) -> None:
        """Hold every step of a rank up for so much longer."""
        self._write(f"slow-{rank}", str(seconds))

    def request(self, what: str, rank: int) -> None:
        """Ask a rank's next step to `block` or to `allocate`."""
        self._write(f"{what}-{rank}", "")

    def release(self, what: str, rank: int) -> None:
        """Withdraw the request, or end what it led to."""
        for path in (self.path / f"{what}-{rank}", *self.path.glob(f"{what}-{rank}.*")):
            path.unlink(missing_ok=True)

    @property
    def saves(self) -> pathlib.Path:
        """Where the chief tells what its saver is at."""
        return self.path / "saves"

    def takers(self, what: str, rank: int) -> list[int]:
        """Return the processes that have taken the request."""
        return [int(path.suffix[1:]) for path in self.path.glob(f"{what}-{rank}.*")]

    def pace_seconds(self, rank: int) -> float:
        """Return how long a step of a rank is held up."""
        return self._read("pace", float(os.environ.get(ENV_PACE_SECONDS, "0"))) + self._read(f"slow-{rank}")

    def take(self, what: str, rank: int) -> bool:
        """Take a request, as the rank's training process; False where there is none."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / f"{what}-{rank}").rename(self._taken(what, rank))
            return True
        return False

    def is_taken(self, what: str, rank: int) -> bool:
        """Tell whether this process is still to do what it took."""
        return self._taken(what, rank).exists()

    def _taken(self, what: str, rank: int) -> pathlib.Path:
        return self.path / f"{what}-{rank}.{os.getpid()}"

    def _read(self, name: str, otherwise: float = 0.0) -> float:
        with contextlib.suppress(FileNotFoundError):
            return float((self.path / name).read_text(encoding="ascii"))
        return otherwise

    def _write(self, name: str, text: str) -> None:
        partial = self.path / f"partial {name}"
        partial.write_text(text, encoding="ascii")
        partial.rename(self.path / name)
