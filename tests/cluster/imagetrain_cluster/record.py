"""What a cluster has started, on disk, so that any later process can use it or end it.

Names of namespaces and cgroups follow from the id, which is written before any of them is made; processes are added as
they start, and those that a killed starter could not add live in the cluster's namespaces.
"""

import collections.abc
import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib

from imagetrain_cluster import processes

FILE_NAME = "record.json"


@dataclasses.dataclass(slots=True, kw_only=True)
class State:
    """The content of the record file."""

    id: str
    """Part of the name of everything that the cluster makes."""
    nodes: int
    gpus: dict[str, int]
    """Node number (JSON wants text): GPUs that it offers."""
    boot: str = dataclasses.field(default_factory=processes.boot)
    """What runs was started since this boot of the machine; a process id and start time mean nothing after the next."""
    owner: processes.Process | None = None
    """A cluster of a test run is swept up once its owner has ended."""
    ready: bool = False
    started: dict[str, processes.Process] = dataclasses.field(default_factory=dict)
    ports: dict[str, int] = dataclasses.field(default_factory=dict)
    """`host:port` in the cluster: the loopback port of the relay to it."""
    arguments: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    """Component of the control plane: arguments that its caller added."""


class Record:
    """The record file in a cluster's folder."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._path = folder / FILE_NAME
        self._lock = folder / "record.lock"

    def exists(self) -> bool:
        """Return whether there is a cluster."""
        return self._path.exists()

    def create(self, state: State) -> None:
        """Write the first record.

        Raises:
            FileExistsError: there is one.
        """
        with self._path.open("x", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(state), file, indent=2)

    def read(self) -> State:
        """Return what is recorded."""
        content = json.loads(self._path.read_text(encoding="utf-8"))
        owner = content.pop("owner")
        started = {name: processes.Process(**process) for name, process in content.pop("started").items()}
        state = State(owner=processes.Process(**owner) if owner else None, started=started, **content)
        if state.boot != processes.boot():
            state.started, state.ready = {}, False
            state.owner = dataclasses.replace(state.owner, started=-1) if state.owner else None
        return state

    @contextlib.contextmanager
    def change(self) -> collections.abc.Iterator[State]:
        """Yield what is recorded and write it back, with other processes kept out."""
        with self._lock.open("w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = self.read()
            yield state
            self._write(state)

    def remove(self) -> None:
        """Forget the cluster: the last step of taking it down."""
        self._path.unlink(missing_ok=True)

    def _write(self, state: State) -> None:
        temporary = self._path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(dataclasses.asdict(state), indent=2), encoding="utf-8")
        temporary.replace(self._path)
