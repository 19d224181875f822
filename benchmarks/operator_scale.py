"""The operator beside a peer: many jobs at once on a real control plane, and single jobs on an idle one.

    python benchmarks/operator_scale.py [--jobs 1000] [--quick] [--only imagetrain]

Each operator gets a fresh control plane (etcd and Kubernetes, in network namespaces of its own) with nodes that are not
there and a kubelet that only pretends; everything else is real. It runs as a process under its own ServiceAccount and
RBAC. Requests are counted from the API server's audit log, CPU time and memory from /proc. The peer is Kubeflow's
training operator, with its client's limits raised and with pods as rich as ours. Exits with 1 when ours misses a figure
that it must reach.
Takes root, and `make cluster-tools`.
"""

import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "cluster"))

from imagetrain_cluster import cluster
from operator_bench import operators, report, trial


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000, help="jobs at once (1000)")
    parser.add_argument("--single-jobs", type=int, default=20, help="jobs one by one (20)")
    parser.add_argument("--quick", action="store_true", help="100 jobs at once, 5 one by one")
    parser.add_argument("--run-seconds", type=float, default=20, help="how long a pod of the many runs (20)")
    parser.add_argument("--progress", action="store_true", help="workers answer /progress")
    parser.add_argument("--bare-peer", action="store_true", help="give the peer's pods nothing that it does not need")
    parser.add_argument("--only", choices=sorted(operators.OPERATORS), help="leave the other one out")
    parser.add_argument("--json", type=pathlib.Path, help="write all figures to this file")
    parser.add_argument("--logs", type=pathlib.Path, help="keep the logs in this folder")
    arguments = parser.parse_args()
    plan = trial.Plan(
        jobs=100 if arguments.quick else arguments.jobs,
        single_jobs=5 if arguments.quick else arguments.single_jobs,
        run_seconds=arguments.run_seconds,
        progress=arguments.progress,
        nodes=10,
        parallel=16,
        logs=arguments.logs,
    )
    cluster.sweep()
    figures = {}
    for name in [arguments.only] if arguments.only else sorted(operators.OPERATORS):
        operator = operators.OPERATORS[name]()
        if arguments.bare_peer and name == "training-operator":
            operator.job_kind += "-bare"
        print(f"==> {operator.title}", flush=True)
        figures[name] = trial.run(operator, plan) | {"title": operator.title, "user": operator.user}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return report.show(figures)


if __name__ == "__main__":
    sys.exit(main())
