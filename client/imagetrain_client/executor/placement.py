"""Where each worker of a local group runs: loopback ports, processor cores, GPUs."""

import os
import pathlib
import random
import re
import socket
from collections.abc import Mapping, Sequence

from imagetrain_api import names
from imagetrain_api.worker_config import WorkerEndpoint
from imagetrain_trainer import errors

LOOPBACK = "127.0.0.1"
# Below the kernel's default range of ports for outgoing connections (32768-60999, ip_local_port_range), so that no
# connection to S3 takes a port between the moment it is found free and the moment the worker listens on it.
_PORTS = range(20000, 32768)
_PORT_TRIES = 1000
_ENV_VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
_NO_GPU = "-1"  # what CUDA reads as "none"


def loopback_endpoints(workers: int) -> tuple[WorkerEndpoint, ...]:
    """Return one endpoint a rank on free ports of the loopback interface.

    Raises:
        ConfigError: the machine has too few free ports.
    """
    ports = _free_ports(3 * workers)
    return tuple(
        WorkerEndpoint(host=LOOPBACK, collective_port=collective, status_port=status, rendezvous_port=rendezvous)
        for collective, status, rendezvous in zip(ports[::3], ports[1::3], ports[2::3], strict=True)
    )


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    for port in random.sample(_PORTS, min(_PORT_TRIES + count, len(_PORTS))):
        with socket.socket() as listener:
            try:
                listener.bind((LOOPBACK, port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise errors.ConfigError(f"spec.workers must fit this machine: it has no {count} free ports in {_PORTS}.")


def worker_environment(rank: int, workers: int, gpus: int, environment: Mapping[str, str]) -> dict[str, str]:
    """Return what rank `rank` gets of this machine: threads for its share of the cores, and its GPUs alone.

    A worker that asks for no GPU sees none, as in its pod on Kubernetes; with fewer GPUs than the group asks for, the
    worker itself refuses (or trains on the CPU, with `spec.worker.allowCpu`).
    """
    share: dict[str, str] = {}
    if not environment.get(names.ENV_CPU_THREADS):
        share[names.ENV_CPU_THREADS] = str(max(1, len(os.sched_getaffinity(0)) // workers))
    visible = _visible_gpus(environment)
    share[_ENV_VISIBLE_GPUS] = ",".join(visible[rank * gpus : (rank + 1) * gpus]) or _NO_GPU
    return share


def _visible_gpus(environment: Mapping[str, str]) -> Sequence[str]:
    given = environment.get(_ENV_VISIBLE_GPUS)
    if given is not None:
        return [part.strip() for part in given.split(",") if part.strip() not in ("", _NO_GPU)]
    devices = [path for path in pathlib.Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
    return [str(index) for index in range(len(devices))]
