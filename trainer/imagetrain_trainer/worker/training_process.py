"""What the supervisor asks of a training process and of what starts it, and the start in a fresh interpreter.

Processes lead a session of their own and die with the supervisor. Start them from its main thread: the kernel counts
the end of the thread that started them as its death.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import IO, Protocol

MODULE = "imagetrain_trainer.training.main"

_POLL_SECONDS = 0.02

Log = int | IO[bytes] | None


class StartError(Exception):
    """A training process cannot be started."""


class TrainingProcess(Protocol):
    """One started training process; it answers as `subprocess.Popen` does."""

    @property
    def pid(self) -> int:
        """Its process id, which is its session's too."""

    def poll(self) -> int | None:
        """Return the exit status once it has ended (negative: the signal that ended it), else None."""

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status when it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not after `timeout` seconds.
        """

    def send_signal(self, number: int, /) -> None:
        """Send a signal, if it has not ended."""

    def kill(self) -> None:
        """End it now."""


class Starter(Protocol):
    """Starts training processes."""

    def is_ready(self) -> bool:
        """Tell whether `start` returns at once.

        Raises:
            StartError: it never will.
        """

    def start(self, variables: Mapping[str, str]) -> TrainingProcess:
        """Start a training process with these environment variables.

        Raises:
            StartError: it cannot be started.
        """

    def close(self) -> None:
        """End what only serves for starting."""


class ColdStart:
    """Starts each training process in a fresh interpreter."""

    def __init__(self, log: Log = None, module: str = MODULE) -> None:
        self._log = log
        self._module = module

    def is_ready(self) -> bool:
        """Tell whether `start` returns at once: always."""
        return True

    def start(self, variables: Mapping[str, str]) -> TrainingProcess:
        """Start a training process with these environment variables."""
        return _Leader(
            [sys.executable, "-m", "imagetrain_trainer.worker.lifeline", str(os.getpid()), self._module],
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def close(self) -> None:
        """Do nothing: nothing but the processes themselves was started."""


class _Leader(subprocess.Popen[bytes]):
    """A process whose end is the end of what it left in its session."""

    def poll(self) -> int | None:
        if self.returncode is None:
            with contextlib.suppress(ChildProcessError):
                if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                    end_session(self.pid)
        return super().poll()

    def wait(self, timeout: float | None = None) -> int:
        return wait_by_polling(self, timeout)


def wait_by_polling(process: TrainingProcess, timeout: float | None) -> int:
    """Wait for a process as `TrainingProcess.wait` does."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while (status := process.poll()) is None:
        if deadline is not None and time.monotonic() >= deadline:
            raise subprocess.TimeoutExpired(f"training process {process.pid}", timeout or 0.0)
        time.sleep(_POLL_SECONDS)
    return status


def end_session(leader: int) -> None:
    """Kill what is left in the session of a process that has ended but is not reaped, so that its number is its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
