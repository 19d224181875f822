"""Two workers lose processes, each other, names and storage, and their model is the undisturbed one."""

import pytest

from imagetrain_chaos import plan

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
def test_killed_and_stuck_ranks_are_named_and_the_group_goes_on(survive, s3_server):
    finished = survive("kill_training", "kill_supervisor", "block", workers=2, server=s3_server)
    assert len(finished.records) == 3


def test_a_partition_and_lost_names_cost_time_alone(survive):
    survive("partition", "dns", workers=2, pace=0.15)


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
def test_an_outage_and_flaky_storage_cost_no_recovery(survive, s3_server):
    outages = [
        plan.Fault(at_step=10, kind="s3_outage", seconds=1.0),
        plan.Fault(at_step=25, kind="s3_outage", seconds=10.0),
        plan.Fault(at_step=30, kind="s3_flaky", seconds=6.0),
    ]
    finished = survive(*outages, workers=2, server=s3_server, pace=0.15)
    assert not finished.records
