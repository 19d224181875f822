"""Many changes of one job within seconds, as tools that label and annotate make them."""

import sys
import time

import cluster_jobs
import operator_processes
import raw_api
from imagetrain_api import names

CHANGES = 200
MERGE_PATCH = "application/merge-patch+json"


def test_storm_of_changes_writes_nothing_and_leaves_the_job_as_it_was(
    jobs: cluster_jobs.ClusterJobs, operator: operator_processes.OperatorProcess
) -> None:
    jobs.apply(jobs.build(suspend=True, worker={"nodeSelector": {"no": "such-node"}}))
    jobs.wait_for_phase("digits", "Suspended", seconds=20)
    before = jobs.status("digits")
    writes, count, seconds = figures(operator)
    elapsed = annotate(jobs, "digits")
    assert jobs.status("digits") == before
    jobs.patch("digits", suspend=False)  # it is seen after all of them
    jobs.wait("digits", lambda status: status.get("attempt") == 0, seconds=20, what="a first attempt")
    writes, count, seconds = (now - then for now, then in zip(figures(operator), (writes, count, seconds), strict=True))
    sys.stdout.write(f"{CHANGES} changes in {elapsed:.1f} s: {count:.0f} reconciliations, {seconds:.3f} s in all\n")
    assert writes < CHANGES / 10  # namespaces that are being deleted are written about, too
    assert count < CHANGES / 10
    jobs.wait_for_pods("digits", 2, seconds=20)
    assert jobs.created_pods("digits") == [(0, 0), (0, 1)]
    assert [event["reason"] for event in jobs.events("digits")].count("SuspendRequested") == 1


def figures(operator: operator_processes.OperatorProcess) -> tuple[float, float, float]:
    """Return the operator's patches, reconciliations, and the seconds that these took."""
    return (
        operator.metric("imagetrain_operator_api_requests_total", verb="PATCH"),
        operator.metric("imagetrain_operator_reconcile_seconds_count"),
        operator.metric("imagetrain_operator_reconcile_seconds_sum"),
    )


def annotate(jobs: cluster_jobs.ClusterJobs, name: str) -> float:
    """Change an annotation of a job many times; return the seconds that it took."""
    api = raw_api.RawApi(jobs.cluster.kubeconfig)
    path = f"/apis/{names.API_VERSION}/namespaces/{jobs.namespace}/{names.PLURAL}/{name}"
    started_at = time.monotonic()
    for number in range(CHANGES):
        patch = {"metadata": {"annotations": {"example.com/change": str(number)}}}
        assert api.request("PATCH", path, patch, kind=MERGE_PATCH).is_accepted
    api.close()
    return time.monotonic() - started_at
