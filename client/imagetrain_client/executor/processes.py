"""One worker process of this machine: its start in a process group of its own, signals, and its end."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence

from imagetrain_client.executor import folders
from imagetrain_trainer import errors

_LEASH = pathlib.Path(__file__).with_name("leash.py")


class WorkerProcess:
    """A started worker and everything it started: all of it is in one process group, led by the worker."""

    def __init__(self, rank: int, command: Sequence[str], environment: Mapping[str, str], log: pathlib.Path) -> None:
        self.rank = rank
        self.log = log
        arguments = [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid()), *command]
        with folders.translated(log), log.open("ab") as stream:
            self._process = subprocess.Popen(
                arguments,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The worker's process id, which is its process group's too."""
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit status once the worker has ended (negative: the signal that ended it), else None."""
        return self._process.poll()

    def terminate(self) -> None:
        """Ask the worker to save and end; a second time: to end at once."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the worker and all that it started, now."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def resolve_command(command: Sequence[str]) -> list[str]:
    """Return the plan's command with the full path of its program, that of this Python environment first.

    Raises:
        ConfigError: it is not installed.
    """
    program, *arguments = command
    own = pathlib.Path(sysconfig.get_path("scripts")) / program
    found = str(own) if os.access(own, os.X_OK) else shutil.which(program)
    if not found:
        raise errors.ConfigError(f"{program} must be installed beside {sys.executable}. Install imagetrain again.")
    return [found, *arguments]
