"""How each kind of fault is done to a job on the test cluster, and how it ends. Which and when is plan.py's."""

import json
import signal
import time
from collections.abc import Callable, Mapping

from imagetrain_chaos import cluster_run, cluster_site, faults, plan, run_processes, runs, told
from imagetrain_cluster import add_ons, wait

_HARMED_NODE = 2
_SLOW_SECONDS = 0.3  # a step takes so much longer: far behind its peers, far from a step deadline
_POLL_SECONDS = 0.1
_TAKE_SECONDS = 60.0


class Happenings:
    """Faults as they are done to a job, and what it tells of each."""

    def __init__(self, run: cluster_run.ClusterRun, site: cluster_site.Site) -> None:
        self._run = run
        self._site = site
        self._done: list[tuple[plan.Fault, int]] = []

    def __len__(self) -> int:
        """Return how many faults there were."""
        return len(self._done)

    def happen(self, planned: plan.Fault) -> None:
        """Let a fault happen, and wait until the job has got over it.

        Raises:
            RunFailedError: the job did not get over it.
        """
        run = self._run
        run.wait_for_step(planned.at_step)
        run.wait_until_settled()
        if planned.kind in _SPREAD and len(set(run.nodes())) == 1:
            # A drained group is on one node.
            self.happen(plan.Fault(at_step=planned.at_step, kind="delete_pod", rank=1))
        known = len(run.failures())
        self._done.append((planned, known))
        end = BEGIN[planned.kind](planned, run, self._site)
        try:
            time.sleep(planned.seconds)
            if told.ON_CLUSTER.get(planned.kind, told.NOTHING).must_be_told:
                run.wait(lambda _status: len(run.failures()) > known, f"a record of {planned}")
        finally:
            end()
        run.wait_until_settled()

    def find_wrong(self) -> list[str]:
        """Return what is wrong with all that was told, one line each: what nothing was done for, too."""
        return told.find_all_wrong(told.ON_CLUSTER, self._done, self._run.failures())


_SPREAD = frozenset({"drain_node", "reclaim_node", "restart_node", "kill_node", "cut_node"})
"""These want a worker on each node: what is done to both is told of either."""


def _kill_training(planned: plan.Fault, run: cluster_run.ClusterRun, _site: cluster_site.Site) -> faults.End:
    run.training(planned.rank).send(signal.SIGKILL)
    return faults.do_nothing


def _kill_supervisor(planned: plan.Fault, run: cluster_run.ClusterRun, _site: cluster_site.Site) -> faults.End:
    run.supervisor(planned.rank).send(signal.SIGKILL)
    return faults.do_nothing


def _freeze_training(planned: plan.Fault, run: cluster_run.ClusterRun, _site: cluster_site.Site) -> faults.End:
    return _freeze(run.training(planned.rank))


def _freeze_supervisor(planned: plan.Fault, run: cluster_run.ClusterRun, _site: cluster_site.Site) -> faults.End:
    return _freeze(run.supervisor(planned.rank))


def _freeze(process: run_processes.RunProcess) -> faults.End:
    process.send(signal.SIGSTOP)
    return lambda: _thaw(process)


def _thaw(process: run_processes.RunProcess) -> None:
    process.send(signal.SIGCONT)


def _block(planned: plan.Fault, run: cluster_run.ClusterRun, _site: cluster_site.Site) -> faults.End:
    return _request("block", planned, run)


def _out_of_memory(planned: plan.Fault, run: cluster_run.ClusterRun, _site: cluster_site.Site) -> faults.End:
    return _request("allocate", planned, run)


def _request(what: str, planned: plan.Fault, run: cluster_run.ClusterRun) -> faults.End:
    """Have a step of the rank do it; return what ends that."""
    folder = run.gate(planned.rank)
    folder.request(what, planned.rank)
    deadline = time.monotonic() + _TAKE_SECONDS
    while not folder.takers(what, planned.rank):
        if time.monotonic() > deadline:
            raise runs.RunFailedError(f"no step of rank {planned.rank} took the request:\n{run.explain()}")
        time.sleep(_POLL_SECONDS)
    return lambda: folder.release(what, planned.rank)


def _slow(planned: plan.Fault, run: cluster_run.ClusterRun, _site: cluster_site.Site) -> faults.End:
    folder = run.gate(planned.rank)
    folder.slow(planned.rank, _SLOW_SECONDS)
    return lambda: folder.slow(planned.rank, 0.0)


def _delete_pod(planned: plan.Fault, run: cluster_run.ClusterRun, site: cluster_site.Site) -> faults.End:
    name = run.pod(planned.rank)["metadata"]["name"]
    site.cluster.kubectl("delete", "pod", name, f"--namespace={site.own.namespace}", "--wait=false")
    return faults.do_nothing


def _evict_pod(planned: plan.Fault, run: cluster_run.ClusterRun, site: cluster_site.Site) -> faults.End:
    name, namespace = run.pod(planned.rank)["metadata"]["name"], site.own.namespace
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
    path = f"/api/v1/namespaces/{namespace}/pods/{name}/eviction"
    site.cluster.kubectl("create", f"--raw={path}", "--filename=-", stdin=json.dumps(eviction))
    return faults.do_nothing


def _drain_node(planned: plan.Fault, run: cluster_run.ClusterRun, site: cluster_site.Site) -> faults.End:
    node = run.pod(planned.rank)["spec"]["nodeName"]
    chosen = f"--pod-selector=imagetrain.dev/job={run.name}"
    site.cluster.kubectl("drain", node, chosen, "--delete-emptydir-data", "--ignore-daemonsets", "--timeout=90s")
    return lambda: _uncordon(site, node)


def _uncordon(site: cluster_site.Site, node: str) -> None:
    site.cluster.kubectl("uncordon", node)


def _reclaim_node(planned: plan.Fault, run: cluster_run.ClusterRun, site: cluster_site.Site) -> faults.End:
    node, taint = run.pod(planned.rank)["spec"]["nodeName"], cluster_site.RECLAIM_TAINT
    site.cluster.kubectl("taint", "node", node, f"{taint}=1:NoSchedule")

    def end() -> None:
        site.cluster.kubectl("taint", "node", node, f"{taint}-")

    return end


def _restart_node(_planned: plan.Fault, _run: cluster_run.ClusterRun, site: cluster_site.Site) -> faults.End:
    """Cut a node's power for a moment: it is back before the control plane misses it."""
    site.cluster.kill_node(_HARMED_NODE)
    site.cluster.start_node(_HARMED_NODE)
    return faults.do_nothing


def _kill_node(_planned: plan.Fault, _run: cluster_run.ClusterRun, site: cluster_site.Site) -> faults.End:
    """Cut a node's power until the control plane has missed it."""
    site.cluster.kill_node(_HARMED_NODE)
    wait.until(
        lambda: not site.cluster.is_node_ready(_HARMED_NODE), timeout_seconds=_TAKE_SECONDS, what="the node's absence"
    )
    return lambda: site.cluster.start_node(_HARMED_NODE)


def _cut_node(_planned: plan.Fault, _run: cluster_run.ClusterRun, site: cluster_site.Site) -> faults.End:
    site.cluster.partition_node(_HARMED_NODE)
    return lambda: site.cluster.heal_node(_HARMED_NODE)


def _kill_operator(_planned: plan.Fault, _run: cluster_run.ClusterRun, site: cluster_site.Site) -> faults.End:
    site.operator.kill()
    return lambda: _start_operator(site)


def _stop_operator(_planned: plan.Fault, _run: cluster_run.ClusterRun, site: cluster_site.Site) -> faults.End:
    site.operator.stop()
    return lambda: _start_operator(site)


def _start_operator(site: cluster_site.Site) -> None:
    site.operator.start()
    site.operator.wait_until_serving()


def _api_outage(_planned: plan.Fault, _run: cluster_run.ClusterRun, site: cluster_site.Site) -> faults.End:
    site.cluster.stop_api_server()
    return site.cluster.start_api_server


def _s3_outage(_planned: plan.Fault, _run: cluster_run.ClusterRun, site: cluster_site.Site) -> faults.End:
    return _freeze_server(site, add_ons.S3_NAMESPACE, b"versitygw")


def _dns(_planned: plan.Fault, _run: cluster_run.ClusterRun, site: cluster_site.Site) -> faults.End:
    return _freeze_server(site, "kube-system", b"coredns")


def _freeze_server(site: cluster_site.Site, namespace: str, command: bytes) -> faults.End:
    """Let a server of the cluster answer nobody: its connections stay, its kernel takes new ones in."""
    uids = [pod["metadata"]["uid"] for pod in site.cluster.list("pod", namespace=namespace)]
    found = [each for each in run_processes.find_in_pods(uids) if command in each.command]
    for process in found:
        process.send(signal.SIGSTOP)

    def end() -> None:
        for process in found:
            process.send(signal.SIGCONT)

    return end


BEGIN: Mapping[str, Callable[[plan.Fault, cluster_run.ClusterRun, cluster_site.Site], faults.End]] = {
    "kill_training": _kill_training,
    "kill_supervisor": _kill_supervisor,
    "freeze_training": _freeze_training,
    "freeze_supervisor": _freeze_supervisor,
    "block": _block,
    "slow": _slow,
    "out_of_memory": _out_of_memory,
    "delete_pod": _delete_pod,
    "evict_pod": _evict_pod,
    "drain_node": _drain_node,
    "reclaim_node": _reclaim_node,
    "restart_node": _restart_node,
    "kill_node": _kill_node,
    "cut_node": _cut_node,
    "kill_operator": _kill_operator,
    "stop_operator": _stop_operator,
    "api_outage": _api_outage,
    "s3_outage": _s3_outage,
    "dns": _dns,
}
