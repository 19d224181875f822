"""The processes of a run, found by a variable of their environment and told apart by their place.

imagetrain run, or a pod
 |- supervisor of each rank     `imagetrain-worker`
     |- training process        or: fork server, and the training process that it forked
"""

import dataclasses
import os
import pathlib
import signal
from collections.abc import Iterable

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
    """Return every process that works for the local run in `folder`."""
    return find_marked(f"{names.ENV_CONFIG}={folder}/worker.json")


def find_marked(variable: str) -> list[RunProcess]:
    """Return every process of a worker that has `NAME=VALUE` in its environment; of pods of this machine, too."""
    wanted = variable.encode()
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            variables = (path / "environ").read_bytes().split(b"\0")
            if wanted in variables:
                rank = next(word for word in variables if word.startswith(names.ENV_RANK.encode() + b"="))
                found.append(_read(path, int(rank.partition(b"=")[2])))
        except (OSError, StopIteration, IndexError):
            continue  # it has ended meanwhile
    return found


def find_in_pods(uids: Iterable[str]) -> list[RunProcess]:
    """Return every process of pods of this machine, their sandboxes' too; none has a rank."""
    wanted = tuple(uids)
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            groups = (path / "cgroup").read_text(encoding="ascii")
            if any(uid in groups for uid in wanted):
                found.append(_read(path, rank=-1))
        except (OSError, IndexError):
            continue  # it has ended meanwhile
    return found


def supervisor(folder: pathlib.Path, rank: int) -> RunProcess | None:
    """Return a rank's supervisor in a local run."""
    return supervisor_among(find(folder), rank)


def training(folder: pathlib.Path, rank: int) -> RunProcess | None:
    """Return a rank's training process in a local run."""
    return training_among(find(folder), rank)


def supervisor_among(processes: Iterable[RunProcess], rank: int) -> RunProcess | None:
    """Return a rank's supervisor, the newest one: pods of the last attempt may be ending still."""
    found = [each for each in processes if each.is_supervisor and each.rank == rank]
    return max(found, key=lambda each: each.started, default=None)


def training_among(processes: Iterable[RunProcess], rank: int) -> RunProcess | None:
    """Return the training process of a rank's supervisor."""
    all_of_them = list(processes)
    parent = supervisor_among(all_of_them, rank)
    children = [each for each in all_of_them if parent is not None and each.parent == parent.pid]
    servers = {each.pid for each in children if _FORK_SERVER in each.command}
    forked = [each for each in all_of_them if each.parent in servers]
    started = [each for each in children if each.pid not in servers]
    return next(iter(forked or started), None)


def _read(path: pathlib.Path, rank: int) -> RunProcess:
    # proc(5): the second field of stat, the name in parentheses, may hold anything; state is field 3.
    fields = (path / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    if fields[0] in "ZX":
        raise ProcessLookupError
    return RunProcess(
        pid=int(path.name),
        started=int(fields[19]),
        parent=int(fields[1]),
        rank=rank,
        command=(path / "cmdline").read_bytes(),
    )
