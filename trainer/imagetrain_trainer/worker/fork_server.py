"""Forks training processes from a process that has imported TensorFlow already: `-m ...fork_server PARENT FD MODULE`.

It has one thread, no TensorFlow context and no CUDA, for none of these survives a fork. It imports MODULE once and then
forks on request; a child is given its environment and runs `MODULE.main()`. When this process dies, its children die.

Messages are JSON lines over the socket FD. `{"variables": {...}}` comes in. `{"ready": THREADS}`, `{"started": PID}`
and `{"ended": PID, "status": STATUS}` go out, with a status as of `subprocess.Popen.poll`. The socket's end is the
server's. `worker.forking` is the other side.
"""

import contextlib
import gc
import importlib
import json
import logging
import os
import pathlib
import random
import select
import signal
import socket
import sys
import tempfile
import traceback
import types
from collections.abc import Callable
from typing import NoReturn

from imagetrain_trainer.worker import lifeline


def main() -> None:
    """Serve until the socket ends."""
    parent, descriptor, name = sys.argv[1:]
    lifeline.bind_to(int(parent))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the supervisor's to pass on
    before = frozenset(os.environ)
    module = importlib.import_module(name)
    kept = {name: value for name, value in os.environ.items() if name not in before}
    gc.collect()
    gc.freeze()  # what was imported lives as long as the children: their collector leaves its pages shared
    with socket.socket(fileno=int(descriptor)) as connection:
        _Server(connection, module, kept).serve()


class _Server:
    def __init__(self, connection: socket.socket, module: types.ModuleType, kept: dict[str, str]) -> None:
        """Prepare.

        Args:
            connection: to the supervisor.
            module: what children run.
            kept: variables that the import set, for libraries that read them later.
        """
        self._connection = connection
        self._module = module
        self._kept = kept
        self._pending = b""
        self._wake_read, self._wake_write = socket.socketpair()
        for end in (self._wake_read, self._wake_write):
            end.setblocking(False)

    def serve(self) -> None:
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a wake-up asks for a handler
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        self._tell(ready=sum(1 for _ in pathlib.Path("/proc/self/task").iterdir()))
        poller = select.poll()  # and no selector, whose descriptor children would inherit
        for end in (self._connection, self._wake_read):
            poller.register(end, select.POLLIN)
        while self._serve_once({descriptor for descriptor, _ in poller.poll()}):
            pass

    def _serve_once(self, ready: set[int]) -> bool:
        if self._wake_read.fileno() in ready:
            with contextlib.suppress(BlockingIOError):
                self._wake_read.recv(4096)
            self._reap()
        if self._connection.fileno() not in ready:
            return True
        received = self._connection.recv(1 << 16)
        *lines, self._pending = (self._pending + received).split(b"\n")
        for line in lines:
            self._fork(json.loads(line)["variables"])
        return bool(received)

    def _fork(self, variables: dict[str, str]) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _run(lambda: self._be_child(parent, variables))
        self._tell(started=pid)

    def _be_child(self, parent: int, variables: dict[str, str]) -> None:
        """Make this process as if it had been started afresh, and run the module."""
        lifeline.bind_to(parent)
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for end in (self._connection, self._wake_read, self._wake_write):
            end.close()
        os.environ.clear()
        os.environ.update({**self._kept, **variables})
        tempfile.tempdir = None
        random.seed()
        if (numpy := sys.modules.get("numpy")) is not None:
            numpy.random.seed()
        logging.getLogger().handlers.clear()
        self._module.main()

    def _reap(self) -> None:
        """Tell of each child that ended; what it left in its session ends with it."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(ended.si_pid, signal.SIGKILL)  # not reaped yet, so the number is still this child's
            _, status = os.waitpid(ended.si_pid, 0)
            self._tell(ended=ended.si_pid, status=os.waitstatus_to_exitcode(status))

    def _tell(self, **message: int) -> None:
        self._connection.sendall(json.dumps(message).encode() + b"\n")


def _run(main: Callable[[], object]) -> NoReturn:
    """Run a function and end with the status that an interpreter would give."""
    status = 0
    try:
        main()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            sys.stderr.write(f"{error.code}\n")
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        status = 1
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
