"""One cluster's folder, and the processes recorded there."""

import collections.abc
import os
import pathlib
import shutil
import signal

from imagetrain_cluster import certificates, errors, network, processes, record, tools


class Workspace:
    """The files, names and recorded processes of one cluster."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.record = record.Record(folder)
        self.logs = folder / "logs"
        self.certificates = certificates.Folder(folder / "pki")
        self.kubeconfig = folder / "kubeconfig"
        """For the machine: the API server by its loopback relay."""
        self.client_kubeconfig = folder / "kubeconfig.client"
        """For processes in the client namespace."""
        self.resolver = folder / "resolv.conf"

    @property
    def network(self) -> network.Network:
        """The cluster's network namespaces."""
        return network.Network(self.record.read().id)

    def start(
        self,
        name: str,
        arguments: collections.abc.Sequence[str | pathlib.Path],
        *,
        namespace: str,
        inherit: collections.abc.Iterable[int] = (),
    ) -> processes.Process:
        """Start a process in a network namespace under a name, and record it."""
        process = processes.spawn(
            [*network.enter(namespace), *arguments],
            log=self.log(name),
            environment={"PATH": tools.search_path(), "HOME": os.environ.get("HOME", "/root")},
            inherit=inherit,
        )
        with self.record.change() as state:
            state.started[name] = process
        return process

    def stop(self, name: str, *, by: signal.Signals = signal.SIGTERM) -> None:
        """End a recorded process, if it runs, and forget it."""
        process = self.record.read().started.get(name)
        if process is not None:
            processes.end(process, by=by)
            with self.record.change() as state:
                del state.started[name]

    def is_running(self, name: str) -> bool:
        """Return whether a recorded process runs."""
        process = self.record.read().started.get(name)
        return process is not None and processes.is_running(process)

    def log(self, name: str) -> pathlib.Path:
        """Return the log file of a process."""
        return self.logs / f"{name}.log"

    def log_tail(self, name: str, *, lines: int = 5) -> str:
        """Return the last lines that a process wrote."""
        try:
            text = self.log(name).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def remove(self, *, keep_logs: bool) -> None:
        """Remove the folder, but never through a mount: a node's volumes hold the machine's own files."""
        mounts = pathlib.Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
        inside = [mount.split()[4] for mount in mounts if mount.split()[4].startswith(f"{self.folder}/")]
        if inside:
            raise errors.ClusterError(f"{self.folder} must hold no mounts before it is removed, got {inside}.")
        for path in self.folder.iterdir():
            if path.name == record.FILE_NAME or (keep_logs and path == self.logs):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        self.record.remove()
        if not keep_logs:
            self.folder.rmdir()
