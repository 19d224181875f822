"""The folder of one run on this machine: config document, logs, outcomes, scratch space, report.

RUN/worker.json          the workers' config document
RUN/logs/rank-N.log      what rank N wrote, over all its restarts
RUN/outcomes/rank-N.json how it ended last
RUN/scratch/rank-N/      its scratch space
RUN/report.html          the report of a finished run
"""

import contextlib
import dataclasses
import errno
import fcntl
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping

from imagetrain_trainer import errors


def default_root(environment: Mapping[str, str]) -> pathlib.Path:
    """Return the folder of all runs: `$XDG_CACHE_HOME/imagetrain/runs`, by default under `~/.cache`."""
    cache = environment.get("XDG_CACHE_HOME", "")
    base = pathlib.Path(cache) if cache.startswith("/") else pathlib.Path.home() / ".cache"
    return base / "imagetrain" / "runs"


@dataclasses.dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths inside the folder of one run."""

    path: pathlib.Path

    @property
    def config(self) -> pathlib.Path:
        """The workers' config document."""
        return self.path / "worker.json"

    @property
    def report(self) -> pathlib.Path:
        """The report of a finished run."""
        return self.path / "report.html"

    def log(self, rank: int) -> pathlib.Path:
        """The log of one rank."""
        return self.path / "logs" / f"rank-{rank}.log"

    def outcome(self, rank: int) -> pathlib.Path:
        """The outcome document of one rank."""
        return self.path / "outcomes" / f"rank-{rank}.json"

    def scratch(self, rank: int) -> pathlib.Path:
        """The scratch folder of one rank."""
        return self.path / "scratch" / f"rank-{rank}"

    def make(self, workers: int) -> None:
        """Make the folders of all ranks.

        Raises:
            ConfigError, DiskFullError: they cannot be made.
        """
        with translated(self.path):
            for rank in range(workers):
                for folder in (self.log(rank).parent, self.outcome(rank).parent, self.scratch(rank)):
                    folder.mkdir(parents=True, exist_ok=True)

    def write_config(self, text: str) -> None:
        """Replace the config document and forget the outcomes of the attempt before."""
        with translated(self.path):
            for outcome in self.config.parent.glob("outcomes/*.json"):
                outcome.unlink()
            partial = self.config.with_suffix(".partial")
            partial.write_text(text, encoding="utf-8")
            partial.replace(self.config)

    def clear_scratch(self) -> None:
        """Remove what the workers kept for themselves."""
        shutil.rmtree(self.path / "scratch", ignore_errors=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second command of this machine away from the run.

        Raises:
            ConfigError: another command runs it now.
        """
        with translated(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise errors.ConfigError(
                    f"{self.path.name} must not be running already, but another imagetrain command runs it. "
                    "Wait for it, or stop it first."
                ) from error
            yield
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def translated(path: pathlib.Path) -> Iterator[None]:
    """Turn errors of the file system under `path` into the trainer's."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise errors.DiskFullError(
                f"{path} must have space left, and its disk is full. Free space, or choose another --work-dir."
            ) from error
        raise errors.ConfigError(
            f"{path} must be a folder for the run, but {error.filename or path} gave: {error.strerror}. "
            "Choose another --work-dir."
        ) from error
