"""Starts training processes by asking the fork server (`worker.fork_server`), which has TensorFlow imported already."""

import contextlib
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping

from imagetrain_trainer.worker import process_state, training_process

logger = logging.getLogger(__name__)

_STUCK_SECONDS = 2.0  # a server that has not told of a dead child by then never will
_START_SECONDS = 60.0  # for a fork, which takes milliseconds, on a machine that swaps
_POLL_SECONDS = 0.05


class ForkServer:
    """A fork server of this process's own; another is started when it has ended."""

    def __init__(
        self,
        variables: Mapping[str, str],
        log: training_process.Log = None,
        module: str = training_process.MODULE,
    ) -> None:
        """Start importing; `is_ready` tells when that is done.

        Args:
            variables: environment of the server; its children get their own.
            log: receives the output of the server and its children.
            module: what it imports, and whose `main` its children run.
        """
        # OpenBLAS starts threads when NumPy is imported; the server must have one thread alone.
        self._variables = {**variables, "OPENBLAS_NUM_THREADS": "1"}
        self._log = log
        self._module = module
        self._server = _Server(self._variables, log, module)

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._server.process.pid

    def is_ready(self) -> bool:
        """Tell whether `start` returns at once.

        Raises:
            StartError: the server ended before it was ready, so another would do no better.
        """
        self._server.receive()
        if not self._server.has_ended:
            return self._server.is_ready
        status = self._server.close()
        if not self._server.is_ready:
            raise training_process.StartError(f"The fork server ended with status {status} before it was ready.")
        logger.warning("the fork server ended with status %d; another is started", status)
        self._server = _Server(self._variables, self._log, self._module)
        return False

    def start(self, variables: Mapping[str, str]) -> training_process.TrainingProcess:
        """Fork a training process with these environment variables; waits until the server is ready.

        Raises:
            StartError: the server ended or does not answer.
        """
        while not self.is_ready():
            self._server.receive(_POLL_SECONDS)
        return _ForkedProcess(self._server, self._server.fork(variables))

    def close(self) -> None:
        """End the server, and with it its children."""
        self._server.close()


class _Server:
    """One server process, and what it has told."""

    def __init__(self, variables: Mapping[str, str], log: training_process.Log, module: str) -> None:
        self._connection, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "imagetrain_trainer.worker.fork_server", str(os.getpid())]
            self.process = subprocess.Popen(
                [*command, str(theirs.fileno()), module],
                env=dict(variables),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._pending = b""
        self._started: int | None = None
        self.is_ready = False
        self.has_ended = False
        self.ends: dict[int, int] = {}  # exit status by process id

    def fork(self, variables: Mapping[str, str]) -> int:
        """Return the process id of a new child.

        Raises:
            StartError: it ended or does not answer.
        """
        self._started = None
        deadline = time.monotonic() + _START_SECONDS
        with contextlib.suppress(OSError):  # its end is seen below
            self._connection.sendall(json.dumps({"variables": dict(variables)}).encode() + b"\n")
        while self._started is None:
            if self.has_ended or time.monotonic() > deadline:
                self.process.kill()
                raise training_process.StartError("The fork server did not start a training process.")
            self.receive(_POLL_SECONDS)
        return self._started

    def receive(self, seconds: float = 0.0) -> None:
        """Take in what it tells within `seconds`."""
        while not self.has_ended and self._is_readable(seconds):
            seconds = 0.0
            try:
                received = self._connection.recv(1 << 16, socket.MSG_DONTWAIT)
            except BlockingIOError:  # a signal handler came in between and has read it
                return
            except OSError:
                received = b""
            self.has_ended = not received
            *lines, self._pending = (self._pending + received).split(b"\n")
            for line in lines:
                self._take(json.loads(line))

    def close(self) -> int:
        """End it and return its status."""
        self._connection.close()
        if not self.has_ended:
            self.process.kill()
        self.has_ended = True
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(_STUCK_SECONDS)  # it leaves by itself when its socket ends
        self.process.kill()
        return self.process.wait()

    def _take(self, message: dict[str, int]) -> None:
        if "ready" in message:
            self.is_ready = True
            if message["ready"] != 1:
                logger.warning("the fork server has %d threads; training processes may hang", message["ready"])
        elif "started" in message:
            self._started = message["started"]
        else:
            self.ends[message["ended"]] = message["status"]

    def _is_readable(self, seconds: float) -> bool:
        poller = select.poll()
        poller.register(self._connection, select.POLLIN)
        return bool(poller.poll(seconds * 1000))


class _ForkedProcess:
    """A child of a fork server."""

    def __init__(self, server: _Server, pid: int) -> None:
        self.pid = pid
        self._server = server
        self._status: int | None = None
        self._dead_since: float | None = None

    def poll(self) -> int | None:
        if self._status is None:
            self._server.receive()
            self._status = self._server.ends.get(self.pid)
            if self._status is None and self._server.has_ended:
                self._status = self._reap()
            elif self._status is None:
                self._end_stuck_server()
        return self._status

    def wait(self, timeout: float | None = None) -> int:
        return training_process.wait_by_polling(self, timeout)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _reap(self) -> int | None:
        """Return the status of a process whose server is gone: it was killed, and is this subreaper's child now."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            return None if self._is_alive() else -signal.SIGKILL
        if pid == 0:
            return None
        return os.waitstatus_to_exitcode(status)

    def _end_stuck_server(self) -> None:
        """End a server that is frozen, so that it does not hide its child's end."""
        if self._is_alive():
            self._dead_since = None
        elif self._dead_since is None:
            self._dead_since = time.monotonic()
        elif time.monotonic() - self._dead_since > _STUCK_SECONDS:
            logger.warning("the fork server does not tell of the end of process %d; it is ended", self.pid)
            self._server.process.kill()
            self._dead_since = None

    def _is_alive(self) -> bool:
        found = process_state.read_process(self.pid)
        return found is not None and found.state != "Z"
