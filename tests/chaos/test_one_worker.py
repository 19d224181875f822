"""One worker whose processes and machine give way, and whose model is the undisturbed one to the bit."""

import pytest

pytestmark = pytest.mark.timeout(300)


def test_a_killed_a_blocked_and_a_frozen_process_are_told_apart(survive):
    finished = survive("kill_training", "block", "freeze_training", workers=1)
    assert [(record.reason, record.rank) for record in finished.records] == [("Killed", 0), ("Hung", 0), ("Frozen", 0)]
    assert all(record.is_in_place for record in finished.records)
    assert finished.records[1].dump_uri
    assert finished.metric("imagetrain_restarts_total") == 3
    lost = finished.metric("imagetrain_goodput_seconds_total", 'state="recovery"')
    assert lost == pytest.approx(sum(record.lost_seconds for record in finished.records), abs=2)


def test_a_full_disk_and_a_memory_limit_are_told_apart(survive):
    finished = survive("disk_full", "out_of_memory", workers=1)
    assert finished.records[-1].reason == "OutOfMemory"
    assert {record.reason for record in finished.records[:-1]} <= {"DiskFull"}


def test_a_clock_that_jumps_by_hours_costs_nothing(survive):
    finished = survive("clock_jump", "clock_jump", "clock_jump", workers=1)
    assert not finished.records
