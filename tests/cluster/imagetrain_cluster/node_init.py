"""The first process of a node: `node_init.py CONFIG.json`, in new mount, pid, uts and ipc namespaces.

Lays out the node's file system, starts containerd, loads the images, keeps kubelet and kube-proxy running, and collects
orphans. When it is killed, the kernel kills everything in its pid namespace: so a node dies. Standard library alone.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time
from typing import Any

_RUN = pathlib.Path("/run")
_CONTAINERD_TIMEOUT_SECONDS = 60.0
_RESTART_DELAY_SECONDS = 1.0


def _mount(*arguments: str | pathlib.Path) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _lay_out(config: dict[str, Any]) -> None:
    """Give the node a /run, /var and kernel settings of its own; everything else is the machine's."""
    socket.sethostname(config["name"])
    # Volumes that kubelet mounts must show in containers that containerd has started, all inside this mount namespace.
    _mount("--make-rshared", "/")
    for target, source in config["binds"].items():
        pathlib.Path(source).mkdir(parents=True, exist_ok=True)
        _mount("--bind", source, target)
    _mount("-t", "tmpfs", "tmpfs", _RUN)
    for name in ("lock", "netns", "containerd", "settings"):
        (_RUN / name).mkdir()
    # kubelet sets machine-wide sysctls; files stand in for them, so that the machine keeps its own.
    for name, value in config["settings"].items():
        stand_in = _RUN / "settings" / name
        stand_in.write_text(f"{value}\n", encoding="ascii")
        _mount("--bind", stand_in, f"/proc/sys/{name.replace('.', '/')}")
    # Machines link this file into /run, which is new here.
    resolver = pathlib.Path(os.path.realpath("/etc/resolv.conf"))
    if not resolver.exists():
        resolver.parent.mkdir(parents=True, exist_ok=True)
        resolver.touch()
    _mount("--bind", config["resolver"], resolver)


def _start(service: dict[str, Any]) -> int:
    with pathlib.Path(service["log"]).open("a", encoding="utf-8") as log:
        return subprocess.Popen(service["arguments"], stdin=subprocess.DEVNULL, stdout=log, stderr=log).pid


def _wait_for_containerd(address: str) -> None:
    deadline = time.monotonic() + _CONTAINERD_TIMEOUT_SECONDS
    while True:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(address)
            except OSError:
                if time.monotonic() > deadline:
                    raise
            else:
                return
        time.sleep(0.05)


def main() -> None:
    """Run the node for ever."""
    config = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    _lay_out(config)
    services = {_start(config["containerd"]): config["containerd"]}
    _wait_for_containerd(config["containerd_address"])
    subprocess.run(config["load_images"], check=True)
    services |= {_start(service): service for service in config["services"]}
    while True:
        pid, status = os.wait()
        if pid in services:
            service = services.pop(pid)
            sys.stderr.write(f"{service['arguments'][0]} ended with {status}; starting it again\n")
            time.sleep(_RESTART_DELAY_SECONDS)
            services[_start(service)] = service


if __name__ == "__main__":
    main()
