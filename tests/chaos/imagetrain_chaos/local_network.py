"""A local group whose workers live in network namespaces of their own: what is on the wires can be cut and named.

    hub        10.99.0.1   the bridge, the DNS server and `imagetrain run` (the cluster's "control plane" place)
    rank r     10.99.0.(11 + r)   worker-r.chaos.test

The namespaces and wires are those of the test cluster (imagetrain_cluster.network); nothing of Kubernetes is there.
"""

import collections.abc
import contextlib
import os
import pathlib
import secrets
import signal
import sys
from collections.abc import Sequence

from imagetrain_api import names
from imagetrain_cluster import errors, network, processes, tools

ENV_PREFIX = "IMAGETRAIN_CHAOS_NETWORK"
"""Path of a worker's namespace without its number; networked_run.py reads it."""

_DOOR = pathlib.Path(__file__).with_name("door.py")
_NAMED = pathlib.Path("/run/netns")
_NAME = "chaos"
_COREFILE = """\
.:53 {{
    bind {address}
    errors
    hosts {hosts} chaos.test {{
        ttl 1
        reload 0
    }}
}}
"""


def enter_worker(command: Sequence[str]) -> list[str]:
    """Return a command of the hub as each worker runs it, whose rank is in its environment."""
    inside = f'exec "$0" --net="${ENV_PREFIX}$(({names.ENV_RANK} + 1))" -- "$@"'
    forget_hosts = ["unshare", "--mount", "/bin/sh", "-c", 'umount /etc/hosts && exec "$@"', "sh"]
    return ["/bin/sh", "-c", inside, str(tools.find("nsenter")), *forget_hosts, *command]


def host_name(rank: int) -> str:
    """Return the name of a rank's host."""
    return f"worker-{rank}.chaos.test"


def missing() -> str:
    """Return why this machine has no such networks, or nothing."""
    if os.geteuid() != 0:
        return "making network namespaces takes root"
    try:
        for program in ("ip", "bridge", "nsenter", "unshare", "mount", "coredns"):
            tools.find(program)
    except errors.ClusterError as error:
        return str(error).removesuffix(".")
    return ""


class LocalNetwork:
    """The wires and names between the workers of one run."""

    def __init__(self, identity: str, folder: pathlib.Path, workers: int) -> None:
        self._wires = network.Network(identity)
        self._folder = folder
        self._workers = workers
        self._dns: processes.Process | None = None
        self._doors: list[processes.Process] = []

    def start(self) -> None:
        """Make namespaces and wires, and serve names."""
        self._wires.create(self._workers)
        self._folder.mkdir(parents=True)
        hosts = "".join(f"{network.node_address(rank + 1)} {host_name(rank)}\n" for rank in range(self._workers))
        (self._folder / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}", encoding="ascii")
        corefile = _COREFILE.format(address=network.CONTROL_PLANE_ADDRESS, hosts=self._folder / "hosts")
        (self._folder / "Corefile").write_text(corefile, encoding="ascii")
        options = "options timeout:1 attempts:1"
        (self._folder / "resolv.conf").write_text(
            f"nameserver {network.CONTROL_PLANE_ADDRESS}\n{options}\n", encoding="ascii"
        )
        words = [*network.enter(self._wires.control_plane), tools.find("coredns"), "-conf", self._folder / "Corefile"]
        self._dns = processes.spawn(words, log=self._folder / "coredns.log", environment=dict(os.environ))

    def prefix(self) -> list[str]:
        """Return the words before a command that run it in the hub, with the network's names."""
        # The command itself must follow the run while names are lost: it, and no worker, finds them in /etc/hosts.
        binds = (f"mount --bind {self._folder}/{name} /etc/{name}" for name in ("resolv.conf", "hosts"))
        bind = f'{" && ".join(binds)} && exec "$@"'
        inside = [str(word) for word in network.enter(self._wires.control_plane)]
        return [*inside, str(tools.find("unshare")), "--mount", "/bin/sh", "-c", bind, "sh"]

    def environment(self) -> dict[str, str]:
        """Return the variables that networked_run.py reads."""
        return {ENV_PREFIX: str(_NAMED / self._wires.node(0)).removesuffix("0")}

    def open_door(self, port: int) -> str:
        """Pass connections from the workers on to a loopback port of this machine; return the address for them."""
        words = [*network.enter(self._wires.control_plane), sys.executable, _DOOR, str(os.getpid()), str(port)]
        door = processes.spawn(words, log=self._folder / "door.log", environment=dict(os.environ))
        self._doors.append(door)  # it lives in this machine's namespace
        return f"http://{network.CONTROL_PLANE_ADDRESS}:{port}"

    def cut(self, rank: int) -> None:
        """Drop every frame from and to a rank. Its link stays up: nobody is told."""
        self._wires.partition(rank + 1)

    def heal(self, rank: int) -> None:
        """Let a rank's frames through again."""
        self._wires.heal(rank + 1)

    def silence_names(self) -> None:
        """Let no name be found any more: questions are not answered."""
        self._signal_dns(signal.SIGSTOP)

    def answer_names(self) -> None:
        """Answer again."""
        self._signal_dns(signal.SIGCONT)

    def _signal_dns(self, number: signal.Signals) -> None:
        assert self._dns is not None
        handle = os.pidfd_open(self._dns.pid)
        try:
            signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)

    def stop(self) -> None:
        """End what lives in the namespaces, and remove them."""
        for process in (*self._doors, *self._wires.inhabitants()):
            processes.end(process, by=signal.SIGKILL)
        self._wires.remove()


@contextlib.contextmanager
def running(folder: pathlib.Path, workers: int) -> collections.abc.Iterator[LocalNetwork]:
    """Have a network until the block ends."""
    _sweep()
    found = LocalNetwork(f"{_NAME}-{os.getpid()}-{secrets.token_hex(3)}", folder, workers)
    try:
        found.start()
        yield found
    finally:
        found.stop()


def _sweep() -> None:
    """Remove the networks of test runs that were killed."""
    for path in _NAMED.glob(f"imagetrain-{_NAME}-*-cp"):
        identity = path.name.removeprefix("imagetrain-").removesuffix("-cp")
        if not pathlib.Path(f"/proc/{identity.split('-')[1]}").exists():
            LocalNetwork(identity, path, 0).stop()
