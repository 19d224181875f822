"""The cluster's network namespaces and the wires between them. The machine's own namespace gets no interface at all.

    control plane  bridge br0, 10.99.0.1     etcd, apiserver, controller-manager, scheduler
    client         eth0, 10.99.0.2           the relays, and processes such as the operator under test
    node i         eth0, 10.99.0.(10 + i)    bridge cni0, pods 10.244.i.0/24

Addresses are the same in every cluster: no two clusters share a namespace.
"""

import collections.abc
import pathlib
import subprocess

from imagetrain_cluster import errors, processes, tools

CONTROL_PLANE_ADDRESS = "10.99.0.1"
CLIENT_ADDRESS = "10.99.0.2"
SERVICE_RANGE = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
DNS_ADDRESS = "10.96.0.10"
POD_RANGE = "10.244.0.0/16"
MAX_NODES = 9

_NAMED = pathlib.Path("/run/netns")
"""Where `ip netns add` binds namespaces to names."""


class Network:
    """The namespaces of one cluster."""

    def __init__(self, cluster_id: str) -> None:
        self._prefix = f"imagetrain-{cluster_id}-"

    @property
    def control_plane(self) -> str:
        """The namespace of the control plane."""
        return f"{self._prefix}cp"

    @property
    def client(self) -> str:
        """The namespace of the tests' clients."""
        return f"{self._prefix}client"

    def node(self, number: int) -> str:
        """Return the namespace of a node."""
        return f"{self._prefix}n{number}"

    def create(self, nodes: int) -> None:
        """Make every namespace, wire and route."""
        for namespace in (self.control_plane, self.client, *(self.node(number) for number in range(1, nodes + 1))):
            _ip("netns", "add", namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
        _ip("-n", self.control_plane, "link", "add", "br0", "type", "bridge")
        _ip("-n", self.control_plane, "address", "add", f"{CONTROL_PLANE_ADDRESS}/24", "dev", "br0")
        _ip("-n", self.control_plane, "link", "set", "br0", "up")
        self._wire(self.client, port="client", address=CLIENT_ADDRESS)
        for number in range(1, nodes + 1):
            self._wire(self.node(number), port=f"n{number}", address=node_address(number))
            _enable_forwarding(self.node(number))
        self._route(nodes)

    def _wire(self, namespace: str, *, port: str, address: str) -> None:
        """Connect a namespace to the bridge."""
        _ip("-n", self.control_plane, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _ip("-n", self.control_plane, "link", "set", port, "master", "br0", "up")
        _ip("-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", namespace, "link", "set", "eth0", "up")
        # kubelet looks for a default route to tell the machine's address.
        _ip("-n", namespace, "route", "add", "default", "via", CONTROL_PLANE_ADDRESS)

    def _route(self, nodes: int) -> None:
        """Route the pods of each node to that node, and services from outside the nodes to node 1's kube-proxy."""
        everywhere = [self.control_plane, self.client, *(self.node(number) for number in range(1, nodes + 1))]
        for number in range(1, nodes + 1):
            for namespace in everywhere:
                if namespace != self.node(number):
                    _ip("-n", namespace, "route", "add", pod_range(number), "via", node_address(number))
        if nodes:
            for namespace in (self.control_plane, self.client):
                _ip("-n", namespace, "route", "add", SERVICE_RANGE, "via", node_address(1))

    def partition(self, number: int) -> None:
        """Drop every frame from and to a node. Its link stays up: nobody is told."""
        self._set_port(number, "disabled")

    def heal(self, number: int) -> None:
        """Let a node's frames through again."""
        self._set_port(number, "forwarding")

    def _set_port(self, number: int, state: str) -> None:
        inside = enter(self.control_plane)
        _run([*inside, tools.find("bridge"), "link", "set", "dev", f"n{number}", "state", state])

    def inhabitants(self) -> list[processes.Process]:
        """Return every process that lives in one of the namespaces, whoever started it."""
        return processes.in_network_namespaces({path.stat().st_ino for path in self._existing()})

    def remove(self) -> None:
        """Remove the namespaces; their interfaces go with them."""
        for path in self._existing():
            _ip("netns", "delete", path.name)

    def _existing(self) -> list[pathlib.Path]:
        return sorted(_NAMED.glob(f"{self._prefix}*"))


def node_address(number: int) -> str:
    """Return the address of a node."""
    return f"10.99.0.{10 + number}"


def pod_range(number: int) -> str:
    """Return the addresses of a node's pods."""
    return f"10.244.{number}.0/24"


def enter(namespace: str) -> list[str | pathlib.Path]:
    """Return the words before a command that run it in a namespace (it keeps its process id)."""
    return [tools.find("nsenter"), f"--net={_NAMED / namespace}", "--"]


def _enable_forwarding(namespace: str) -> None:
    """Let a namespace forward packets, and tell nobody of a better way.

    A node sends packets for a pod that it does not have (yet) back, to its default route. The sender would take the
    redirection for a better route, and lose what it sends to the next pod of that address for minutes.
    """
    settings = {"ip_forward": 1, "conf/all/send_redirects": 0, "conf/eth0/send_redirects": 0}
    script = "; ".join(f"echo {value} >/proc/sys/net/ipv4/{name}" for name, value in settings.items())
    _run([*enter(namespace), "/bin/sh", "-c", script])


def _ip(*words: str) -> None:
    _run([tools.find("ip"), *words])


def _run(arguments: collections.abc.Sequence[str | pathlib.Path]) -> None:
    result = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        words = " ".join(str(word) for word in arguments)
        raise errors.ClusterError(f"{words} failed: {result.stderr.strip()}")
