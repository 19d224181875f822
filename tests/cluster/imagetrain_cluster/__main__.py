"""The command: `python -m imagetrain_cluster up|down|status|kubeconfig|...`."""

import argparse
import pathlib
import shlex
import sys
import time

from imagetrain_cluster import cluster, errors


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options, cluster.Cluster(options.folder))
    except errors.ClusterError as error:
        print(f"imagetrain_cluster: {error}", file=sys.stderr)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m imagetrain_cluster", description=__doc__)
    parser.add_argument(
        "--folder",
        type=pathlib.Path,
        default=cluster.DEFAULT_FOLDER,
        help="the cluster's folder (default: %(default)s)",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="bring the cluster up unless it runs; print how to use it")
    up.add_argument("--nodes", type=int, default=2, help="0 is a control plane alone (default: %(default)s)")
    up.add_argument("--gpus", type=int, default=1, help="nvidia.com/gpu of each node (default: %(default)s)")
    up.add_argument("--audit", action="store_true", help="write each API request to logs/audit.jsonl")
    up.set_defaults(run=_up)
    commands.add_parser("down", help="end all of it").set_defaults(run=_down)
    commands.add_parser("status", help="say what runs").set_defaults(run=_status)
    commands.add_parser("kubeconfig", help="print the export line").set_defaults(run=_kubeconfig)
    commands.add_parser("api-restart", help="restart the API server").set_defaults(run=_api_restart)
    forward = commands.add_parser("forward", help="print a loopback address that leads to HOST PORT in the cluster")
    forward.add_argument("host")
    forward.add_argument("port", type=int)
    forward.set_defaults(run=_forward)
    return parser


def _up(options: argparse.Namespace, found: cluster.Cluster) -> int:
    if not found.is_running:
        if found.exists:
            print("==> Taking down what is left of the last cluster", file=sys.stderr)
            found.down()
        print(f"==> Bringing up a cluster of {options.nodes} nodes", file=sys.stderr)
        begun = time.monotonic()
        cluster.Cluster.up(options.folder, nodes=options.nodes, gpus=options.gpus, audit=options.audit)
        print(f"==> Ready after {time.monotonic() - begun:.0f} s", file=sys.stderr)
    return _kubeconfig(options, found)


def _down(_options: argparse.Namespace, found: cluster.Cluster) -> int:
    found.down()
    return 0


def _status(_options: argparse.Namespace, found: cluster.Cluster) -> int:
    if not found.exists:
        print("no cluster")
        return 1
    running = found.is_running
    state = found.state
    print(f"cluster {state.id}: {state.nodes} nodes, {'running' if running else 'NOT running'}")
    print(f"logs: {found.logs}")
    for place, port in state.ports.items():
        print(f"127.0.0.1:{port} -> {place}")
    if running:
        print(found.kubectl("get", "nodes,pods", "--all-namespaces", "--output=wide"), end="")
    return 0 if running else 1


def _kubeconfig(_options: argparse.Namespace, found: cluster.Cluster) -> int:
    if not found.exists:
        raise errors.ClusterError("There is no cluster. Run: make cluster")
    print(f"export KUBECONFIG={shlex.quote(str(found.kubeconfig))}")
    return 0


def _api_restart(_options: argparse.Namespace, found: cluster.Cluster) -> int:
    found.restart_api_server()
    return 0


def _forward(options: argparse.Namespace, found: cluster.Cluster) -> int:
    print(f"127.0.0.1:{found.forward(options.host, options.port)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
