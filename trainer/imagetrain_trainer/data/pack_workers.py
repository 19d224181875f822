"""The processes of a pack: chunks go to them in turn and come back in order, whatever their number."""

import collections
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import connection

from imagetrain_trainer import errors
from imagetrain_trainer.data import pack_list, pack_worker

_CHUNKS_AHEAD = 3  # per process: one in work, one waiting, one on its way
_STOP_SECONDS = 5
_PROGRAM = "import sys; from imagetrain_trainer.data import pack_worker; pack_worker.main(int(sys.argv[1]))"

Chunks = Iterator[pack_worker.Chunk]


@contextlib.contextmanager
def open_workers(work: pack_worker.Work, processes: int) -> Iterator[Callable[[Iterable[list[pack_list.Row]]], Chunks]]:
    """Start the processes, and end them on leaving; one alone is this process itself.

    They are fresh interpreters (`sys.executable`), not forks, so that no lock or thread of the caller's is copied, and
    nothing of the caller's main module runs again. The source's class must be importable.

    Yields:
        A function from lists of rows to their chunks, in order. It raises what `pack_worker.work_on` raises, and
        `errors.ConfigError` when a process is killed.
    """
    if processes == 1:
        yield lambda lists: (pack_worker.work_on(work, rows) for rows in lists)
        return
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(_start(work)) for _ in range(processes)]
        yield lambda lists: _run(workers, lists)


class _Worker:
    def __init__(self, process: "subprocess.Popen[bytes]", channel: connection.Connection) -> None:
        self._process = process
        self._channel = channel

    def send(self, question: pack_worker.Work | list[tuple[object, ...]]) -> None:
        with self._explain():
            self._channel.send(question)

    def receive(self) -> pack_worker.Chunk:
        with self._explain():
            answer = self._channel.recv()
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, pack_worker.Chunk)
        return answer

    @contextlib.contextmanager
    def _explain(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as e:
            status = self._process.wait(_STOP_SECONDS)
            cause = "this machine may be short of memory" if status < 0 else "its own message says why"
            raise errors.ConfigError(
                f"a packing process must live until its work is done, and one ended with status {status}: {cause}. "
                "Pack again, with fewer --processes; it goes on where it stopped."
            ) from e


@contextlib.contextmanager
def _start(work: pack_worker.Work) -> Iterator[_Worker]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)},
            process_group=0,  # a terminal's Ctrl-C is for the parent
        )
    channel = connection.Connection(ours.detach())
    try:
        worker = _Worker(process, channel)
        worker.send(work)
        yield worker
    finally:
        channel.close()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _run(workers: list[_Worker], lists: Iterable[list[pack_list.Row]]) -> Chunks:
    pending: collections.deque[_Worker] = collections.deque()
    for number, rows in enumerate(lists):
        worker = workers[number % len(workers)]
        worker.send([tuple(row) for row in rows])
        pending.append(worker)
        if len(pending) >= _CHUNKS_AHEAD * len(workers):
            yield pending.popleft().receive()
    while pending:
        yield pending.popleft().receive()
