"""One fault of each kind, drawn from the seed, on a group of two; and the outages that take long."""

import pytest

from imagetrain_chaos import plan, told

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

S3_KINDS = ("s3_outage", "s3_flaky")


@pytest.mark.parametrize("kind", sorted((plan.RANK_WIDE | plan.GROUP_WIDE).difference(S3_KINDS)))
def test_a_fault_costs_time_alone_and_is_told(survive, kind):
    finished = survive(kind, workers=2)
    (fault,) = finished.planned
    assert not told.ON_LOCAL_RUN.get(kind, told.NOTHING).find_wrong(fault, finished.records)


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
@pytest.mark.parametrize("kind", S3_KINDS)
def test_bad_storage_costs_time_alone(survive, s3_server, kind):
    survive(kind, workers=2, server=s3_server, pace=0.15)


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
def test_an_outage_of_a_minute_costs_time_alone(survive, s3_server):
    survive(plan.Fault(at_step=15, kind="s3_outage", seconds=60.0), workers=2, server=s3_server, pace=0.15)


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
def test_a_recovery_within_an_outage_waits_for_its_end(survive, s3_server):
    finished = survive(
        plan.Fault(at_step=15, kind="s3_outage", seconds=20.0),
        plan.Fault(at_step=16, kind="kill_training", rank=1),
        workers=2,
        server=s3_server,
        is_overlapping=True,
    )
    assert finished.records


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
def test_a_recovery_within_an_outage_goes_on_from_a_step_within_it(survive, s3_server):
    finished = survive(  # between the ends of two epochs, which have saves of their own
        plan.Fault(at_step=22, kind="s3_outage", seconds=20.0),
        plan.Fault(at_step=38, kind="kill_training", rank=1),
        workers=2,
        server=s3_server,
        pace=0.2,
        is_overlapping=True,
    )
    assert finished.records[0].resumed_step > 29  # the last save that began to upload
