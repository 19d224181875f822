"""The command: `python -m imagetrain_cluster up|down|status|kubeconfig|...`."""

import argparse
import fcntl
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


_NODE_VERBS = {
    "node-kill": "kill every process of a node at once",
    "node-start": "start a killed node again",
    "node-partition": "drop everything that a node sends or is sent",
    "node-heal": "connect it again",
    "node-gpus": "let a node offer COUNT GPUs",
    "node-exec": "run a command on a node, as root",
}


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
    for name, purpose in _NODE_VERBS.items():
        verb = commands.add_parser(name, help=purpose)
        verb.add_argument("node", type=int, help="its number, from 1 on")
        if name == "node-gpus":
            verb.add_argument("count", type=int)
        if name == "node-exec":
            verb.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
        verb.set_defaults(run=_node_verb, verb=name)
    commands.add_parser("s3", help="start the S3 server unless it runs; print its address and keys").set_defaults(
        run=_s3
    )
    forward = commands.add_parser("forward", help="print a loopback address that leads to HOST PORT in the cluster")
    forward.add_argument("host")
    forward.add_argument("port", type=int)
    forward.set_defaults(run=_forward)
    return parser


def _up(options: argparse.Namespace, found: cluster.Cluster) -> int:
    options.folder.parent.mkdir(parents=True, exist_ok=True)
    # Two terminals may both bring it up; the second waits here and then finds it running.
    with options.folder.with_suffix(".lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _ensure_up(options, found)
    return _kubeconfig(options, found)


def _ensure_up(options: argparse.Namespace, found: cluster.Cluster) -> None:
    if not found.is_running:
        if found.exists:
            print("==> Taking down what is left of the last cluster", file=sys.stderr)
            found.down()
        print(f"==> Bringing up a cluster of {options.nodes} nodes", file=sys.stderr)
        begun = time.monotonic()
        cluster.Cluster.up(options.folder, nodes=options.nodes, gpus=options.gpus, audit=options.audit)
        print(f"==> Ready after {time.monotonic() - begun:.0f} s", file=sys.stderr)


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


def _node_verb(options: argparse.Namespace, found: cluster.Cluster) -> int:
    if options.verb == "node-exec":
        ended = found.exec_on_node(options.node, options.words, check=False)
        sys.stdout.write(ended.stdout)
        sys.stderr.write(ended.stderr)
        return ended.returncode
    if options.verb == "node-gpus":
        found.set_gpus(options.node, options.count)
        return 0
    actions = {
        "node-kill": found.kill_node,
        "node-start": found.start_node,
        "node-partition": found.partition_node,
        "node-heal": found.heal_node,
    }
    actions[options.verb](options.node)
    return 0


def _s3(_options: argparse.Namespace, found: cluster.Cluster) -> int:
    server = found.s3()
    print(f"# in the cluster: {server.endpoint_url}")
    print(f"export AWS_ENDPOINT_URL={server.local_endpoint_url} AWS_REGION={server.region}")
    print(f"export AWS_ACCESS_KEY_ID={server.access_key} AWS_SECRET_ACCESS_KEY={server.secret_key}")
    return 0


def _forward(options: argparse.Namespace, found: cluster.Cluster) -> int:
    print(f"127.0.0.1:{found.forward(options.host, options.port)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
