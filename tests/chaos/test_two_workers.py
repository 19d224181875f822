"""Two workers lose processes, each other, names and storage, and their model is the undisturbed one."""

import pytest

from imagetrain_chaos import plan

pytestmark = pytest.mark.timeout(300)

REASONS = {"kill_training": {"Killed"}, "kill_supervisor": {"Lost", "PeerLost"}, "block": {"Hung"}}


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
def test_killed_and_blocked_ranks_are_named(survive, s3_server):
    finished = survive("kill_training", "kill_supervisor", "block", workers=2, server=s3_server)
    assert [record.rank for record in finished.records] == [fault.rank for fault in finished.planned]
    for record, fault in zip(finished.records, finished.planned, strict=True):
        assert record.reason in REASONS[fault.kind]


def test_a_partition_and_lost_names_cost_time_alone(survive):
    finished = survive("partition", "dns", workers=2, pace=0.15)
    assert len(finished.records) <= 1  # lost names stop nobody who is connected


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
def test_outages_and_flaky_storage_cost_no_recovery(survive, s3_server):
    outages = [
        plan.Fault(at_step=10, kind="s3_outage", seconds=1.0),
        plan.Fault(at_step=25, kind="s3_outage", seconds=10.0),
        plan.Fault(at_step=30, kind="s3_flaky", seconds=6.0),
    ]
    finished = survive(*outages, workers=2, server=s3_server, pace=0.15)
    assert not finished.records
