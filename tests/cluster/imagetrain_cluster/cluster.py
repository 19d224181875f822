"""A cluster: up, down, and everything that tests and people ask of it."""

import collections.abc
import os
import pathlib
import secrets
import subprocess
import time
from typing import Any

from imagetrain_cluster import control_plane, errors, network, processes, record, tools, workspace

HOME = tools.CACHE / "cluster"
"""Each cluster has a folder in here."""

DEFAULT_FOLDER = HOME / "dev"
"""The cluster of `make cluster`."""

KUBECTL_TIMEOUT_SECONDS = 100.0


class Cluster:
    """One cluster in its folder. Any process may make an object of a cluster that another has brought up."""

    def __init__(self, folder: pathlib.Path = DEFAULT_FOLDER) -> None:
        self._space = workspace.Workspace(folder.absolute())
        self._control_plane = control_plane.ControlPlane(self._space)

    @classmethod
    def up(
        cls,
        folder: pathlib.Path = DEFAULT_FOLDER,
        *,
        nodes: int = 2,
        gpus: int = 1,
        owner: int | None = None,
        audit: bool = False,
        arguments: collections.abc.Mapping[str, collections.abc.Sequence[str]] | None = None,
    ) -> "Cluster":
        """Bring up a cluster and return it ready.

        Args:
            folder: it must not hold a cluster already.
            nodes: 0 gives a control plane alone, in about 4 s.
            gpus: `nvidia.com/gpu` of each node.
            owner: process id of the test run that the cluster belongs to; `sweep` takes it down when that has ended.
            audit: write each API request to `audit_log`.
            arguments: component of the control plane (such as kube-scheduler): arguments to add.

        Raises:
            ClusterError: this machine cannot, or a component did not start. Only the logs are left then.
        """
        self = cls(folder)
        self._check(nodes)
        self._space.logs.mkdir(parents=True, exist_ok=True)
        added = {component: list(words) for component, words in (arguments or {}).items()}
        if audit:
            added["kube-apiserver"] = [*added.get("kube-apiserver", []), *self._audit_arguments()]
        state = record.State(
            id=secrets.token_hex(3),
            nodes=nodes,
            gpus=gpus,
            owner=processes.of(owner) if owner is not None else None,
            arguments=added,
        )
        self._space.record.create(state)
        try:
            self._bring_up(nodes)
        except BaseException:
            self.down(keep_logs=True)
            raise
        with self._space.record.change() as state:
            state.ready = True
        return self

    def _check(self, nodes: int) -> None:
        if not 0 <= nodes <= network.MAX_NODES:
            raise errors.ClusterError(f"nodes must be between 0 and {network.MAX_NODES}, got {nodes!r}.")
        reason = tools.missing(nodes=nodes)
        if reason:
            raise errors.ClusterError(f"A cluster cannot run here: {reason}.")
        if self._space.record.exists():
            raise errors.ClusterError(f"{self._space.folder} holds a cluster already. Take it down first.")

    def _audit_arguments(self) -> list[str]:
        policy, log = control_plane.audit_policy(self._space), control_plane.audit_log(self._space)
        return [f"--audit-policy-file={policy}", f"--audit-log-path={log}"]

    def _bring_up(self, nodes: int) -> None:
        self._space.certificates.create(nodes=nodes)
        self._space.resolver.write_text(
            f"nameserver {network.DNS_ADDRESS}\nsearch svc.cluster.local cluster.local\n", encoding="utf-8"
        )
        self._space.network.create(nodes)
        self._control_plane.start()

    def down(self, *, keep_logs: bool = False) -> None:
        """End everything that the cluster started and remove what it made; also after its starter was killed midway."""
        if not self._space.record.exists():
            return
        state = self._space.record.read()
        cluster_network = self._space.network
        # The last started goes first, so that nothing waits for what has gone.
        for process in reversed(state.started.values()):
            processes.end(process)
        while left := cluster_network.inhabitants():
            for process in left:
                processes.end(process)
        cluster_network.remove()
        self._space.remove(keep_logs=keep_logs)

    @property
    def exists(self) -> bool:
        """Whether the folder holds a cluster, running or not."""
        return self._space.record.exists()

    @property
    def is_running(self) -> bool:
        """Whether the cluster came up and all that it started still runs."""
        if not self.exists:
            return False
        state = self._space.record.read()
        return state.ready and all(processes.is_running(process) for process in state.started.values())

    @property
    def state(self) -> record.State:
        """What is recorded about the cluster."""
        return self._space.record.read()

    @property
    def kubeconfig(self) -> pathlib.Path:
        """An administrator's kubeconfig that works anywhere on this machine."""
        return self._space.kubeconfig

    @property
    def client_kubeconfig(self) -> pathlib.Path:
        """The same for processes in the client namespace: no relay between; `popen` sets it."""
        return self._space.client_kubeconfig

    @property
    def logs(self) -> pathlib.Path:
        """The folder of the components' logs."""
        return self._space.logs

    @property
    def audit_log(self) -> pathlib.Path:
        """The API server's audit log, with `up(audit=True)`: one JSON object a line and request."""
        return control_plane.audit_log(self._space)

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl as the administrator and return its stdout.

        Raises:
            ClusterError: it failed, and `check`.
        """
        result = subprocess.run(
            [tools.find("kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments],
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=KUBECTL_TIMEOUT_SECONDS,
            check=False,
        )
        if check and result.returncode != 0:
            raise errors.ClusterError(f"kubectl {' '.join(arguments)} failed: {result.stderr.strip()}")
        return result.stdout

    def client_command(self, arguments: collections.abc.Sequence[str | pathlib.Path]) -> list[str | pathlib.Path]:
        """Return the command that runs `arguments` in the client namespace (as the same process, not a child)."""
        inside = network.enter(self._space.network.client)
        return [*inside, *control_plane.client_command(self._space, arguments)]

    def popen(
        self,
        arguments: collections.abc.Sequence[str | pathlib.Path],
        *,
        env: collections.abc.Mapping[str, str] | None = None,
        **options: Any,
    ) -> "subprocess.Popen[str]":
        """Start a process that reaches pods, services and the API server, with KUBECONFIG set; options as for Popen.

        `env` is added to this process's environment. Signals reach the program itself: nothing stands between.
        """
        environment = {**os.environ, "KUBECONFIG": str(self.client_kubeconfig), **(env or {})}
        return subprocess.Popen(self.client_command(arguments), env=environment, text=True, **options)

    def forward(self, host: str, port: int) -> int:
        """Return a loopback port of the machine that leads to `host:port` (pod, service or address) in the cluster."""
        known = self._space.record.read().ports.get(f"{host}:{port}")
        return known or control_plane.start_relay(self._space, f"relay-{host}-{port}", host, port)

    def restart_api_server(self, *, down_seconds: float = 0.0) -> None:
        """End the API server, and start it again after a while. Returns when it is ready."""
        self.stop_api_server()
        time.sleep(down_seconds)
        self.start_api_server()

    def stop_api_server(self) -> None:
        """End the API server."""
        self._control_plane.stop_api_server()

    def start_api_server(self) -> None:
        """Start the API server and wait until it is ready."""
        self._control_plane.start_api_server()


def sweep() -> list[pathlib.Path]:
    """Take down the clusters of test runs that have ended without doing so; return their folders."""
    swept = []
    for path in sorted(HOME.glob(f"*/{record.FILE_NAME}")):
        left = Cluster(path.parent)
        owner = left.state.owner
        if owner is not None and not processes.is_running(owner):
            left.down()
            swept.append(path.parent)
    return swept
