"""One operator's turn: a fresh control plane, idle jobs one by one, then many at once, and what all of it cost."""

import collections
import contextlib
import dataclasses
import itertools
import json
import math
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import IO, Any

from imagetrain_cluster import cluster
from operator_bench import audit, fake_kubelet, load, operators, process_figures, systems

_BENCHMARKS = pathlib.Path(__file__).resolve().parents[1]
_LATENCY, _LOAD = "latency", "load"  # namespaces
_LATENCY_RUN_SECONDS = 2.0
_LATENCY_PAUSE_SECONDS = 1.5
_SETTLE_SECONDS = 5.0
_QUIET_SECONDS = 5.0
_MAX_QUIET_SECONDS = 120.0
_ALLOCATED = "go_memstats_alloc_bytes_total"  # of Prometheus' Go collector
_CONTROL_PLANE = {
    "kube-apiserver": [
        "--audit-log-maxsize=4000",  # the default starts a new file after 100 MB
        "--enable-aggregator-routing=true",  # call the peer's webhook at its endpoint: nothing serves Service addresses
    ],
    # Nobody renews the leases of nodes that are not there.
    "kube-controller-manager": ["--controllers=*,-node-lifecycle-controller,-taint-eviction-controller"],
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured.

    Attributes:
        jobs: how many at once; 0 leaves that part out.
        single_jobs: how many one by one; 0 leaves that part out.
        run_seconds: how long a pod of the many runs.
        progress: whether workers answer /progress.
        nodes: how many nodes there seem to be.
        parallel: how many create requests at once.
        logs: folder that keeps the logs, or nothing.
    """

    jobs: int
    single_jobs: int
    run_seconds: float
    progress: bool
    nodes: int
    parallel: int
    logs: pathlib.Path | None


def run(operator: operators.Operator, plan: Plan) -> dict[str, Any]:
    """Measure one operator."""
    folder = cluster.HOME / f"bench-{operator.name}-{os.getpid()}"
    there = cluster.Cluster.up(folder, nodes=0, owner=os.getpid(), audit=True, arguments=_CONTROL_PLANE)
    with contextlib.ExitStack() as ending:
        ending.callback(there.down)
        if plan.logs:
            ending.callback(shutil.copytree, there.logs, plan.logs / operator.name, dirs_exist_ok=True)
        processes = ending.enter_context(_programs(operator, there, plan))
        time.sleep(_SETTLE_SECONDS)
        turn = _Turn(operator, there, processes, plan)
        figures = turn.latency() if plan.single_jobs else {}
        return figures | (turn.load() if plan.jobs else {})


@contextlib.contextmanager
def _programs(
    operator: operators.Operator, there: cluster.Cluster, plan: Plan
) -> Iterator["dict[str, subprocess.Popen[str]]"]:
    """Install and start the operator and the kubelet; yield them once they are ready."""
    operator.install(there)
    kubeconfig = operator.write_kubeconfig(there)
    # Every pod address leads to this namespace itself, so that a call is answered or refused, and not lost.
    route = there.popen(["ip", "route", "add", "local", fake_kubelet.POD_RANGE, "dev", "lo"])
    if route.wait() != 0:
        raise RuntimeError("the pods' addresses could not be routed")
    with contextlib.ExitStack() as stack:
        logs = {
            name: stack.enter_context((there.logs / f"{name}.log").open("w", encoding="utf-8"))
            for name in (operator.name, fake_kubelet.AGENT)
        }
        words = [f"--nodes={plan.nodes}", "--run-seconds", f"{plan.run_seconds}", f"{_LATENCY}={_LATENCY_RUN_SECONDS}"]
        words += ["--progress"] if plan.progress else []
        kubelet = _python(there, fake_kubelet.__name__, words, log=logs[fake_kubelet.AGENT])
        stack.callback(_end, kubelet)
        process = operator.start(there, kubeconfig, logs[operator.name])
        stack.callback(_end, process)
        operator.wait_until_ready(there, process)
        assert kubelet.stdout is not None
        if kubelet.stdout.readline() != "ready\n":
            raise RuntimeError(f"the fake kubelet did not start; see {there.logs}.")
        yield {operator.name: process, fake_kubelet.AGENT: kubelet}


def _python(
    there: cluster.Cluster, module: str, words: Sequence[str], *, log: IO[str] | None = None
) -> "subprocess.Popen[str]":
    """Start a program of the benchmark in the client namespace; what it prints can be read."""
    command = [sys.executable, "-m", module, f"--kubeconfig={there.client_kubeconfig}", *words]
    path = f"{_BENCHMARKS}:{_BENCHMARKS.parent / 'tests' / 'cluster'}"
    return there.popen(command, env={"PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=log)


def _end(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class _Turn:
    """Runs the client, and joins what it saw with the audit log."""

    def __init__(
        self,
        operator: operators.Operator,
        there: cluster.Cluster,
        processes: "dict[str, subprocess.Popen[str]]",
        plan: Plan,
    ) -> None:
        self._operator = operator
        self._there = there
        self._plan = plan
        self._log = audit.Log(there.audit_log)
        self._pids = {name: process.pid for name, process in processes.items()}
        self._pids |= {name: process.pid for name, process in there.state.started.items()}

    def latency(self) -> dict[str, Any]:
        """Return the delays of jobs that have the cluster for themselves, in milliseconds."""
        jobs = self._plan.single_jobs
        seen = self._run_client(_LATENCY, jobs, "--one-by-one", str(_LATENCY_PAUSE_SECONDS))
        self._log.read_on()
        requests = self._requests(_LATENCY, seen["first_create"])
        posts = [one for one in requests if one.who == load.AGENT and one.is_write]
        created, ended = [], []
        for post, following in itertools.zip_longest(posts, posts[1:]):
            # Jobs run one by one; the names of new pods are not in the log.
            until = following.received if following else math.inf
            own = [one for one in requests if post.received <= one.received < until]
            pods = [one.done for one in own if (one.verb, one.resource) == ("create", "pods")]
            states = [one.done for one in own if one.resource == "pods/status" and one.who == fake_kubelet.AGENT]
            if (len(pods), len(states)) != (systems.WORKERS, 2 * systems.WORKERS):
                raise RuntimeError(f"{post.name} made {len(pods)} pods with {len(states)} states; see the audit log.")
            created.append(1000 * (max(pods) - post.received))
            ended.append(1000 * (seen["ended"][post.name] - max(states)))
        return {"single_jobs": jobs, "create_to_pods_ms": created, "pods_ended_to_seen_ms": ended}

    def load(self) -> dict[str, Any]:
        """Return what many jobs at once took and cost."""
        allocated, before = self._allocated_mib(), self._figures()
        seen = self._run_client(_LOAD, self._plan.jobs)
        self._wait_until_quiet()
        after, now = self._figures(), time.time()
        allocated = self._allocated_mib() - allocated
        start, ends = seen["first_create"], seen["ended"].values()
        requests = self._requests(_LOAD, start)
        cost = {
            name: {
                "cpu_ms_per_job": 1000 * (figures.cpu_seconds - before[name].cpu_seconds) / self._plan.jobs,
                "rss_mib": figures.rss_mib,
                "peak_rss_mib": figures.peak_rss_mib,
            }
            for name, figures in after.items()
        }
        return {
            "jobs": self._plan.jobs,
            "succeeded": len(ends) - len(seen["failed"]),
            "seconds": max(ends, default=now) - start,
            "create_seconds": seen["last_create"] - start,
            "pods_created_seconds": _last(requests, "create", "pods") - start,
            "pods_ended_seconds": _last(requests, "patch", "pods/status") - start,
            "window_seconds": now - start,
            "processes": cost,
            "api_server_allocated_mib_per_job": allocated / self._plan.jobs,
            **self._count(requests, start),
        }

    def _count(self, requests: list[audit.Request], start: float) -> dict[str, Any]:
        numbers: collections.Counter[tuple[str, str, str]] = collections.Counter()
        for one in requests:
            kind = "reads" if not one.is_write else "refused" if one.was_refused else "writes"
            numbers[kind, one.who, f"{one.verb} {one.resource}"] += 1
        counts: dict[str, dict[str, dict[str, float]]] = {"writes": {}, "refused": {}, "reads": {}}
        for (kind, who, what), number in numbers.items():
            counts[kind].setdefault(who, {})[what] = number / self._plan.jobs
        if self._operator.user not in counts["writes"]:
            raise RuntimeError(f"{self._operator.title} wrote nothing as {self._operator.user}.")
        return counts | {
            "writes_elsewhere": collections.Counter(
                f"{one.verb} {one.resource}"
                for one in self._log.requests
                if one.who == self._operator.user and one.is_write and one.namespace != _LOAD and one.received >= start
            )
        }

    def _requests(self, namespace: str, start: float) -> list[audit.Request]:
        return [one for one in self._log.requests if one.namespace == namespace and one.received >= start]

    def _figures(self) -> dict[str, process_figures.Figures]:
        return {name: process_figures.read(pid) for name, pid in self._pids.items()}

    def _allocated_mib(self) -> float:
        """Return what the API server has allocated so far: a measure of its work that is the same on a busy machine."""
        metrics = self._there.kubectl("get", "--raw=/metrics")
        line = next(line for line in metrics.splitlines() if line.startswith(f"{_ALLOCATED} "))
        return float(line.split()[1]) / 2**20

    def _run_client(self, namespace: str, jobs: int, *words: str) -> dict[str, Any]:
        arguments = [f"--system={self._operator.job_kind}", f"--namespace={namespace}", f"--jobs={jobs}"]
        arguments += [f"--parallel={self._plan.parallel}", *words]
        with _python(self._there, load.__name__, arguments) as client:
            output, _ = client.communicate()
        if client.returncode != 0:
            raise RuntimeError(f"the client failed on {self._operator.title}")
        seen: dict[str, Any] = json.loads(output)
        return seen

    def _wait_until_quiet(self) -> None:
        """Wait until the last write is some seconds old, so that late ones are counted."""
        deadline = time.time() + _MAX_QUIET_SECONDS
        self._log.read_on()
        while time.time() - self._log.last_write(_LOAD) < _QUIET_SECONDS and time.time() < deadline:
            time.sleep(1)
            self._log.read_on()


def _last(requests: list[audit.Request], verb: str, resource: str) -> float:
    return max((one.done for one in requests if (one.verb, one.resource) == (verb, resource)), default=0.0)
