"""Processes killed while they save: within the copy, the upload, the manifest and the collection of garbage."""

import pytest

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
@pytest.mark.parametrize("workers", [1, 2])
def test_kills_within_saves_leave_the_model_as_it_was(survive, s3_server, workers):
    finished = survive(*["kill_saving"] * 6, workers=workers, server=s3_server, pace=0.15)
    assert [record.rank for record in finished.records] == [fault.rank for fault in finished.planned]
    assert {record.reason for record in finished.records} == {"Killed"}
    assert sum(finished.met.values()) == len(finished.planned)
