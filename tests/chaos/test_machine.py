"""The machine under a worker gives way: clock, disk, memory."""

import pytest

pytestmark = pytest.mark.timeout(300)


def test_a_clock_that_jumps_an_hour_is_no_failure(survive):
    finished = survive("clock_jump", "clock_jump", "clock_jump", workers=1)
    assert not finished.records


def test_a_full_disk_and_a_memory_limit_cost_time_alone(survive):
    finished = survive("disk_full", "out_of_memory", workers=1)
    assert "OutOfMemory" in {record.reason for record in finished.records}
