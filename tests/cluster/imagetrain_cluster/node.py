"""A node: containerd, kubelet and kube-proxy in namespaces of their own, with folders of their own in the cluster's."""

import json
import pathlib
import signal
import sys
from typing import Any

from imagetrain_cluster import cgroups, control_plane, images, kubeconfig, network, processes, tools, wait, workspace

START_TIMEOUT_SECONDS = 10.0

LEASE_SECONDS = 8
"""kubelet renews its lease after a quarter of this."""

_CONTAINERD_ADDRESS = "/run/containerd/containerd.sock"
_SETTINGS = {
    "vm.overcommit_memory": 1,
    "vm.panic_on_oom": 0,
    "kernel.panic": 10,
    "kernel.panic_on_oops": 1,
    "kernel.keys.root_maxkeys": 1000000,
    "kernel.keys.root_maxbytes": 25000000,
}
"""What kubelet sets on start: pkg/kubelet/cm/container_manager_linux.go, setupKernelTunables."""

SHADOWED = ("/var/lib", "/var/log", "/run")
"""Folders of the machine that a node does not see: nothing it needs may lie in there."""


class Node:
    """One node of a cluster, by its number from 1 on."""

    def __init__(self, space: workspace.Workspace, number: int) -> None:
        self._space = space
        self._number = number
        self.name = f"n{number}"
        self._folder = space.folder / self.name

    @property
    def _process(self) -> str:
        return f"node-{self.name}"

    def start(self) -> None:
        """Start the node, or start it again with the disk that it had. Does not wait until it is Ready."""
        space = self._space
        state = space.record.read()
        cgroups.create(state.id, self._number)
        self._folder.mkdir(exist_ok=True)
        self._write_files(state.id)
        arguments: list[str | pathlib.Path] = [
            tools.find("unshare"),
            *("--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child=KILL"),
            *("--propagation=private", "--mount-proc", "--"),
            *(sys.executable, "-I", "-S", pathlib.Path(__file__).with_name("node_init.py"), self._folder / "node.json"),
        ]
        outside = space.start(f"unshare-{self.name}", arguments, namespace=space.network.node(self._number))
        # Once the first process of a pid namespace has ended, so have all others: wait for that one, not for unshare.
        first = wait.until(
            lambda: processes.children(outside.pid),
            timeout_seconds=START_TIMEOUT_SECONDS,
            what=f"the start of node {self.name} (see {space.log(f'unshare-{self.name}')})",
        )
        with space.record.change() as state:
            state.started[self._process] = processes.of(first[0])

    def kill(self) -> None:
        """Kill every process of the node at once, as a power cut does. Its disk and its address stay."""
        space = self._space
        state = space.record.read()
        for name in (self._process, f"unshare-{self.name}"):
            process = state.started.get(name)
            if process is not None:
                processes.end(process, by=signal.SIGKILL)
        cgroups.remove(state.id, self._number)
        with space.record.change() as state:
            for name in (self._process, f"unshare-{self.name}"):
                state.started.pop(name, None)

    def command(self, arguments: list[str]) -> list[str | pathlib.Path]:
        """Return the command that runs `arguments` on the node."""
        first = self._space.record.read().started[self._process]
        return [tools.find("nsenter"), f"--target={first.pid}", *("-m", "-u", "-i", "-n", "-p"), "--", *arguments]

    def empty_dir(self, pod_uid: str, volume: str) -> pathlib.Path:
        """Return where an emptyDir volume of a pod lies on the machine."""
        kubelet = self._folder / "var-lib" / "kubelet"
        return kubelet / "pods" / pod_uid / "volumes" / "kubernetes.io~empty-dir" / volume

    def _write_files(self, cluster_id: str) -> None:
        space, folder = self._space, self._folder
        access = kubeconfig.build(space.certificates, user=f"kubelet-{self.name}", server=control_plane.SERVER)
        kubeconfig.write(folder / "kubeconfig", access)
        # No name server answers at this address, and says so at once: pulling an image fails without delay.
        (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n", encoding="ascii")
        (folder / "containerd.toml").write_text(self._containerd_configuration(), encoding="utf-8")
        _write_json(folder / "kubelet.json", self._kubelet_configuration(cluster_id))
        (folder / "cni").mkdir(exist_ok=True)
        _write_json(folder / "cni" / "10-pods.conflist", self._cni_configuration())
        _write_json(folder / "node.json", self._init_configuration())

    def _init_configuration(self) -> dict[str, Any]:
        space, folder = self._space, self._folder
        ctr = [str(tools.find("ctr")), f"--address={_CONTAINERD_ADDRESS}", "--namespace=k8s.io"]
        containerd = [str(tools.find("containerd")), f"--config={folder / 'containerd.toml'}"]
        return {
            "name": self.name,
            "binds": {target: str(folder / target[1:].replace("/", "-")) for target in ("/var/lib", "/var/log")},
            "settings": _SETTINGS,
            "resolver": str(folder / "resolv.conf"),
            "containerd": {"arguments": containerd, "log": str(space.log(f"containerd-{self.name}"))},
            "containerd_address": _CONTAINERD_ADDRESS,
            "load_images": [*ctr, "images", "import", str(images_archive(space))],
            "services": [
                {"arguments": self._kubelet_arguments(), "log": str(space.log(f"kubelet-{self.name}"))},
                {"arguments": self._proxy_arguments(), "log": str(space.log(f"kube-proxy-{self.name}"))},
            ],
        }

    def _kubelet_arguments(self) -> list[str]:
        return [
            str(tools.find("kubelet")),
            f"--config={self._folder / 'kubelet.json'}",
            f"--kubeconfig={self._folder / 'kubeconfig'}",
            f"--hostname-override={self.name}",
            f"--node-ip={network.node_address(self._number)}",
        ]

    def _kubelet_configuration(self, cluster_id: str) -> dict[str, Any]:
        pki = self._space.certificates
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": network.node_address(self._number),
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(pki.certificate("ca"))},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(pki.certificate(f"kubelet-{self.name}")),
            "tlsPrivateKeyFile": str(pki.key(f"kubelet-{self.name}")),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": cgroups.name(cluster_id, self._number),
            "failCgroupV1": False,
            "failSwapOn": False,
            # kubelet finds no file system information for the root device of some machines, and would not start.
            "localStorageCapacityIsolation": False,
            "evictionHard": {"memory.available": "100Mi"},
            "containerRuntimeEndpoint": f"unix://{_CONTAINERD_ADDRESS}",
            "clusterDNS": [network.DNS_ADDRESS],
            "clusterDomain": "cluster.local",
            "resolvConf": str(self._folder / "resolv.conf"),
            # Nothing could bring back an image that was collected.
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "nodeStatusUpdateFrequency": "3s",
            "nodeStatusReportFrequency": "60s",
            "nodeLeaseDurationSeconds": LEASE_SECONDS,
            "shutdownGracePeriod": "0s",
        }

    def _proxy_arguments(self) -> list[str]:
        return [
            str(tools.find("kube-proxy")),
            f"--kubeconfig={control_plane.component_kubeconfig(self._space, 'kube-proxy')}",
            f"--hostname-override={self.name}",
            f"--bind-address={network.node_address(self._number)}",
            "--metrics-bind-address=127.0.0.1:10249",
            "--proxy-mode=iptables",
            f"--cluster-cidr={network.POD_RANGE}",
            # These are machine-wide.
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0s",
            "--conntrack-tcp-timeout-close-wait=0s",
        ]

    def _cni_configuration(self) -> dict[str, Any]:
        # ptp and not bridge: every packet is routed, so that services work between pods of one node without the kernel
        # module br_netfilter.
        address: dict[str, Any] = {
            "type": "host-local",
            "dataDir": "/run/cni",
            "ranges": [[{"subnet": network.pod_range(self._number)}]],
        }
        address["routes"] = [{"dst": "0.0.0.0/0"}]
        return {
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [
                {"type": "ptp", "ipMasq": False, "ipam": address},
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        }

    def _containerd_configuration(self) -> str:
        disabled = [f'"io.containerd.snapshotter.v1.{name}"' for name in ("aufs", "btrfs", "devmapper", "zfs")]
        return f"""\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [{", ".join(disabled)}]
[grpc]
  address = "{_CONTAINERD_ADDRESS}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{images.PAUSE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{tools.CNI_FOLDER}"
    conf_dir = "{self._folder / "cni"}"
"""


def images_archive(space: workspace.Workspace) -> pathlib.Path:
    """Return the docker-archive that every node loads."""
    return space.folder / "images.tar"


def _write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
