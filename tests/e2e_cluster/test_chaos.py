"""One fault of each kind that a cluster knows, drawn from a seed, on one job: its model is the undisturbed one."""

import os
import pathlib
import sys

import pytest

from imagetrain_chaos import cluster_site, cluster_soak, plan
from imagetrain_cluster import cluster as cluster_module

MINUTES = 40  # at most: it ends when every kind has happened


@pytest.mark.long
@pytest.mark.timeout(3000)  # eighteen recoveries, of up to a minute each on a busy machine
@pytest.mark.usefixtures("no_operator")
def test_each_kind_of_fault_costs_time_alone_and_is_told(
    cluster: cluster_module.Cluster, tmp_path: pathlib.Path
) -> None:
    seed, kinds = int(os.environ.get("IMAGETRAIN_CHAOS_SEED", "1")), sorted(plan.ON_CLUSTER)
    sys.stdout.write(f"IMAGETRAIN_CHAOS_SEED={seed}\n")
    steps = 2 * cluster_soak.GAP_STEPS * len(kinds)  # some are spent in waiting
    with cluster_site.serving(cluster, tmp_path) as site:
        assert cluster_soak.endure(site, seed, kinds, steps=steps, minutes=MINUTES, most=len(kinds)) == []
