"""The processes of a local run, found by the config document in their environment and told apart by their place.

imagetrain run
 |- supervisor of each rank     `imagetrain-worker`
     |- training process        or: fork server, and the training process that it forked
"""

import dataclasses
import os
import pathlib
import signal

from imagetrain_api import names
from imagetrain_cluster import processes as cluster_processes

_SUPERVISOR = b"imagetrain-worker"
_FORK_SERVER = b"imagetrain_trainer.worker.fork_server"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunProcess:
    """One process of a run."""

    pid: int
    started: int
    parent: int
    rank: int
    command: bytes

    @property
    def is_supervisor(self) -> bool:
        """Whether it is a rank's supervisor."""
        return _SUPERVISOR in self.command

    def resident_bytes(self) -> int:
        """Return the memory that it holds; 0 when it has ended."""
        return _status_number(self.pid, "VmRSS") * 1024

    def threads(self) -> int:
        """Return how many threads it has; 0 when it has ended."""
        return _status_number(self.pid, "Threads")

    def descriptors(self) -> int:
        """Return how many files and sockets it holds open; 0 when it has ended."""
        try:
            return len(list(pathlib.Path(f"/proc/{self.pid}/fd").iterdir()))
        except OSError:
            return 0

    def send(self, number: signal.Signals) -> bool:
        """Send a signal to this very process; False when it has ended."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not is_running(self):
                return False
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True


def is_running(process: RunProcess) -> bool:
    """Tell whether this very process has not ended."""
    return cluster_processes.is_running(cluster_processes.Process(pid=process.pid, started=process.started))


def find(folder: pathlib.Path) -> list[RunProcess]:
    """Return every process that works for the run in `folder`."""
    wanted = f"{names.ENV_CONFIG}={folder}/worker.json".encode()
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            variables = (path / "environ").read_bytes().split(b"\0")
            if wanted in variables:
                found.append(_read(path, variables))
        except (OSError, IndexError):
            continue  # it has ended meanwhile
    return found


def supervisor(folder: pathlib.Path, rank: int) -> RunProcess | None:
    """Return a rank's supervisor."""
    return next((each for each in find(folder) if each.is_supervisor and each.rank == rank), None)


def training(folder: pathlib.Path, rank: int) -> RunProcess | None:
    """Return a rank's training process."""
    own = [each for each in find(folder) if each.rank == rank]
    parents = {each.pid for each in own if each.is_supervisor}
    children = [each for each in own if each.parent in parents]
    servers = {each.pid for each in children if _FORK_SERVER in each.command}
    forked = [each for each in own if each.parent in servers]
    started = [each for each in children if each.pid not in servers]
    return next(iter(forked or started), None)


def _read(path: pathlib.Path, variables: list[bytes]) -> RunProcess:
    # proc(5): the second field of stat, the name in parentheses, may hold anything; state is field 3.
    fields = (path / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    if fields[0] in "ZX":
        raise ProcessLookupError
    rank = next(word for word in variables if word.startswith(names.ENV_RANK.encode() + b"="))
    return RunProcess(
        pid=int(path.name),
        started=int(fields[19]),
        parent=int(fields[1]),
        rank=int(rank.partition(b"=")[2]),
        command=(path / "cmdline").read_bytes(),
    )


def _status_number(pid: int, name: str) -> int:
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)
