"""A cluster: up, down, and everything that tests and people ask of it."""

import collections.abc
import functools
import http.client
import json
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from typing import Any

from imagetrain_cluster import (
    access,
    add_ons,
    cgroups,
    control_plane,
    errors,
    host_files,
    images,
    network,
    node,
    processes,
    record,
    tools,
    wait,
    workspace,
)

HOME = tools.CACHE / "cluster"
"""Each cluster has a folder in here."""

DEFAULT_FOLDER = HOME / "dev"
"""The cluster of `make cluster`."""

KEEP_LOGS_SECONDS = 86400
"""Of clusters that are down."""

READY_TIMEOUT_SECONDS = 90
"""For nodes and add-ons: 3 s on two idle cores."""

GPU = "nvidia.com/gpu"


class Cluster(access.Access):
    """One cluster in its folder. Any process may make an object of a cluster that another has brought up."""

    def __init__(self, folder: pathlib.Path = DEFAULT_FOLDER) -> None:
        self._space = workspace.Workspace(folder.absolute())
        super().__init__(self._space.kubeconfig)
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
            gpus={str(number): gpus for number in range(1, nodes + 1)},
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
        for path in (self._space.folder, tools.CHECKOUT):
            if nodes and any(path.is_relative_to(hidden) for hidden in node.SHADOWED):
                raise errors.ClusterError(f"{path} must not lie in one of {node.SHADOWED}: nodes have their own.")
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
        if nodes:
            images.write(node.images_archive(self._space))
            self.apply(*add_ons.build_base())
            self._start_nodes(range(1, nodes + 1))
            self.wait_for_deployment("kube-system", "coredns", timeout_seconds=READY_TIMEOUT_SECONDS)

    def down(self, *, keep_logs: bool = False) -> None:
        """End everything that the cluster started and remove what it made; also after its starter was killed midway."""
        if not self._space.record.exists():
            return
        state = self._space.record.read()
        cluster_network = self._space.network
        for number in range(1, state.nodes + 1):
            self._node(number).kill()
        # At once: nothing of it is kept, and a running one would wait for its peers.
        for process in reversed(state.started.values()):
            processes.end(process, by=signal.SIGKILL)
        while left := cluster_network.inhabitants():
            for process in left:
                processes.end(process, by=signal.SIGKILL)
        cluster_network.remove()
        if state.nodes:
            cgroups.remove(state.id)
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

    def kill_node(self, number: int) -> None:
        """Kill every process of a node at once, as a power cut does."""
        self._node(number).kill()

    def start_node(self, number: int) -> None:
        """Start a node that was killed, with the disk that it had. Returns when it is Ready, with its GPUs."""
        self._start_nodes([number])

    def partition_node(self, number: int) -> None:
        """Drop everything that a node sends or is sent. Its processes run on."""
        self._node(number)
        self._space.network.partition(number)

    def heal_node(self, number: int) -> None:
        """Connect a node again."""
        self._node(number)
        self._space.network.heal(number)

    def exec_on_node(
        self, number: int, arguments: list[str], *, check: bool = True
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command on a node, as root, and return what it said."""
        command = self._node(number).command(arguments)
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=check)

    def empty_dir(self, number: int, pod_uid: str, volume: str) -> pathlib.Path:
        """Return where an emptyDir volume of a pod of a node lies on the machine."""
        return self._node(number).empty_dir(pod_uid, volume)

    def set_gpus(self, number: int, count: int) -> None:
        """Let a node offer this many GPUs. There need be none: the number is all that the scheduler asks for."""
        with self._space.record.change() as state:
            state.gpus[str(number)] = count
        self._publish_gpus(number)

    def _publish_gpus(self, number: int) -> None:
        count = str(self._space.record.read().gpus[str(number)])
        patch = json.dumps({"status": {part: {GPU: count} for part in ("capacity", "allocatable")}})
        name = self._node(number).name
        self.kubectl("patch", "node", name, "--subresource=status", "--type=merge", f"--patch={patch}")

    def is_node_ready(self, number: int) -> bool:
        """Return whether the control plane holds a node for Ready."""
        return self._is_ready_since(number, "")

    def _node(self, number: int) -> node.Node:
        nodes = self._space.record.read().nodes
        if not 1 <= number <= nodes:
            raise errors.ClusterError(f"node must be between 1 and {nodes}, got {number!r}.")
        return node.Node(self._space, number)

    def _start_nodes(self, numbers: collections.abc.Sequence[int]) -> None:
        begun = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        for number in numbers:
            self._node(number).start()
        for number in numbers:
            self._wait_for_node(number, since=begun)
            self._publish_gpus(number)

    def _wait_for_node(self, number: int, *, since: str) -> None:
        """Wait until a node says that it is Ready, at `since` or later: an earlier life of it may have said so, too."""
        name = self._node(number).name
        wait.until(
            lambda: self._is_ready_since(number, since),
            timeout_seconds=READY_TIMEOUT_SECONDS,
            what=f"node {name} becoming Ready (see {self._space.log(f'kubelet-{name}')})",
        )

    def _is_ready_since(self, number: int, since: str) -> bool:
        found = self.get("node", self._node(number).name) or {}
        conditions = found.get("status", {}).get("conditions", [])
        ready = next((condition for condition in conditions if condition["type"] == "Ready"), {"status": "Unknown"})
        # Times of the API are comparable as text.
        return ready["status"] == "True" and ready["lastHeartbeatTime"] >= since

    def create_namespace(self, name: str, *, labels: collections.abc.Mapping[str, str] | None = None) -> None:
        """Make a namespace that enforces the Pod Security level `restricted`, with the claim of `host_files` in it."""
        all_labels = {"pod-security.kubernetes.io/enforce": "restricted", **(labels or {})}
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": all_labels}}
        self.apply(namespace, host_files.build_volume(name), host_files.build_claim(name))
        self.kubectl(
            "wait",
            f"pvc/{host_files.CLAIM}",
            f"--namespace={name}",
            "--for=jsonpath={.status.phase}=Bound",
            f"--timeout={READY_TIMEOUT_SECONDS}s",
        )

    def delete_namespace(self, name: str) -> None:
        """Begin to delete a namespace made by `create_namespace`: that takes 10 s, and nobody need wait for it."""
        self.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false")
        selector = f"--selector={host_files.NAMESPACE_LABEL}={name}"
        self.kubectl("delete", "persistentvolume", selector, "--wait=false")

    def s3(self) -> add_ons.S3:
        """Return the S3 server in the cluster; start it when it is not there."""
        keys = add_ons.start_s3(self)
        port = self.forward(add_ons.S3_HOST, add_ons.S3_PORT)
        # The address of a new Service leads nowhere until kube-proxy has heard of it.
        wait.until(
            functools.partial(_answers, f"http://127.0.0.1:{port}/"),
            timeout_seconds=READY_TIMEOUT_SECONDS,
            what="an answer of the S3 server",
        )
        pod = self.list("pod", namespace=add_ons.S3_NAMESPACE)[0]
        disk = self.empty_dir(1, pod["metadata"]["uid"], "data")
        return add_ons.S3(local_endpoint_url=f"http://127.0.0.1:{port}", buckets=disk / "buckets", **keys)

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


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except urllib.error.HTTPError:
        return True  # it refuses who shows no key
    except (OSError, http.client.HTTPException):
        return False
    return True


def sweep() -> list[pathlib.Path]:
    """Take down the clusters of test runs that have ended without doing so; return their folders. Remove old logs."""
    swept = []
    for path in sorted(HOME.glob(f"*/{record.FILE_NAME}")):
        left = Cluster(path.parent)
        owner = left.state.owner
        if owner is not None and not processes.is_running(owner):
            left.down()
            swept.append(path.parent)
    for logs in HOME.glob("*/logs"):
        is_of_nothing = not (logs.parent / record.FILE_NAME).exists()
        if is_of_nothing and logs.stat().st_mtime < time.time() - KEEP_LOGS_SECONDS:
            shutil.rmtree(logs.parent)
    return swept
