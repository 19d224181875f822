"""Where the programs are: Go programs built by tools/go_tool.sh, Debian packages by tools/debian_tools.sh."""

import functools
import os
import pathlib
import re
import shutil

from imagetrain_cluster import errors

CHECKOUT = pathlib.Path(__file__).resolve().parents[3]

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "imagetrain"

_GO_MODULES = {
    "kubernetes": "k8s.io/kubernetes",
    "coredns": "github.com/coredns/coredns",
    "prometheus": "github.com/prometheus/prometheus",
    "versitygw": "github.com/versity/versitygw",
}
"""Folder under tests/tools: the Go module whose version names the folder in the cache."""

_GO_PROGRAMS = {
    "kube-apiserver": "kubernetes",
    "kube-controller-manager": "kubernetes",
    "kube-scheduler": "kubernetes",
    "kubelet": "kubernetes",
    "kube-proxy": "kubernetes",
    "kubectl": "kubernetes",
    "coredns": "coredns",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "versitygw": "versitygw",
}

_UNPACKED = CACHE / "tools" / "debian"
"""Packages that would start a service are unpacked here, not installed."""

SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")

CNI_FOLDER = pathlib.Path("/usr/lib/cni")


@functools.cache
def version(module: str) -> str:
    """Return the locked version of the Go module built in tests/tools/`module`."""
    text = (CHECKOUT / "tests" / "tools" / module / "go.mod").read_text(encoding="utf-8")
    match = re.search(rf"\b{re.escape(_GO_MODULES[module])} (v\S+)", text)
    if match is None:
        raise errors.ClusterError(f"tests/tools/{module}/go.mod must require {_GO_MODULES[module]}.")
    return match[1]


@functools.cache
def find(program: str) -> pathlib.Path:
    """Return the path of a program.

    Raises:
        ClusterError: it is not there; the message names the make target that brings it.
    """
    if program in _GO_PROGRAMS:
        module = _GO_PROGRAMS[program]
        path = CACHE / "tools" / f"{module}-{version(module)}" / program
        if path.exists():
            return path
        raise errors.ClusterError(f"{program} is not built: {path} is missing. Run: make cluster-tools")
    found = shutil.which(program, path=search_path())
    if found is None:
        raise errors.ClusterError(f"{program} is not installed. Run as root: make cluster-tools")
    return pathlib.Path(found)


def search_path() -> str:
    """Return the PATH on which the programs of the Debian packages are found, whatever the caller's own PATH is."""
    return ":".join((*(str(_UNPACKED / "usr" / name) for name in ("sbin", "bin")), *SYSTEM_PATH))


def missing(*, nodes: int) -> str:
    """Return why this machine cannot run a cluster, or nothing."""
    programs = ["etcd", "ip", "nsenter", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"]
    if nodes:
        programs += ["containerd", "ctr", "runc", "iptables", "conntrack", "busybox", "unshare", "bridge", "mount"]
        programs += ["kubelet", "kube-proxy", "coredns", "versitygw"]
    if os.geteuid() != 0:
        return "making network namespaces takes root"
    for program in programs:
        try:
            find(program)
        except errors.ClusterError as error:
            return str(error).removesuffix(".")
    if nodes and not (CNI_FOLDER / "bridge").exists():
        return f"{CNI_FOLDER}/bridge is missing. Run as root: make cluster-tools"
    return ""
