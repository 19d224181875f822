"""`imagetrain` with each worker in a network namespace of its own: the same command, two of its places exchanged.

`python -m imagetrain_chaos.networked_run run JOB.YAML ...` stands in for `imagetrain run JOB.YAML ...` within
LocalNetwork.prefix(). Only where a worker is, and how its program is entered, differ.
"""

import dataclasses
import os
from collections.abc import Sequence

from imagetrain_api.worker_config import WorkerEndpoint
from imagetrain_chaos import local_network
from imagetrain_client.cli import main as cli
from imagetrain_client.executor import placement, processes


def main() -> None:
    """Exchange the two places and run the command."""
    find_ports, find_program = placement.loopback_endpoints, processes.resolve_command

    def place(workers: int) -> tuple[WorkerEndpoint, ...]:
        return tuple(
            dataclasses.replace(endpoint, host=local_network.host_name(rank))
            for rank, endpoint in enumerate(find_ports(workers))
        )

    def enter(command: Sequence[str]) -> list[str]:
        return local_network.enter_worker(find_program(command))

    assert os.environ[local_network.ENV_PREFIX]
    placement.loopback_endpoints = place
    processes.resolve_command = enter
    cli.main()


if __name__ == "__main__":
    main()
