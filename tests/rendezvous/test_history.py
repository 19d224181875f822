import pytest

from imagetrain_api import exit_codes
from rendezvous_groups import UNIX, Group

Code = exit_codes.ExitCode


def _fail(group, step, status=-9):
    group.report(0, 1, step=step)
    group.report(1, state="ended", exit_code=status)
    group.settle()


def _record(group, index=-1):
    return group.order(0).recoveries[index]


def test_lost_time_runs_from_the_last_finished_step_to_the_first_beyond():
    group = Group(2)
    group.join(0, 1, local_steps=(100,))
    group.follow()
    group.report(0, 1, step=120)  # at this moment step 120 was finished
    began = group.now
    group.wait(3)
    detected = group.now
    _fail(group, 120)
    group.wait(2, follows=True)
    record = _record(group)
    assert (record.step, record.resumed_step, record.resumed_at) == (120, 100, None)
    assert record.detected_at == pytest.approx(detected + UNIX)
    assert record.lost_seconds == pytest.approx(3)  # so far
    group.wait(4)
    assert group.coordinator.recoveries(group.now)[-1].lost_seconds == pytest.approx(group.now - began)
    group.report(0, 1, step=120)
    assert _record(group).resumed_at is None  # only as far as before
    group.wait(1)
    group.report(1, step=121)
    assert _record(group).resumed_at == pytest.approx(group.now + UNIX)
    assert _record(group).lost_seconds == pytest.approx(group.now - began)
    group.wait(5)
    assert _record(group).lost_seconds == pytest.approx(group.now - began - 5)


def test_group_that_goes_on_from_a_later_step_than_it_had_told_had_got_that_far():
    group = Group(2)
    group.join(0, 1, local_steps=(122,))
    group.follow()
    group.report(0, 1, step=120)
    began = group.now
    group.wait(1)
    _fail(group, 120)
    group.wait(2, follows=True)
    assert (_record(group).step, _record(group).resumed_step) == (122, 122)
    group.report(0, 1, step=122)
    assert _record(group).resumed_at is None  # it has made no step yet
    group.wait(1)
    group.report(0, step=123)
    assert _record(group).resumed_at == pytest.approx(group.now + UNIX)
    assert _record(group).lost_seconds == pytest.approx(group.now - began)


def test_the_step_of_resuming_from_the_store_is_learnt_from_the_first_report_behind_the_start():
    group = Group(2)
    group.start(step=0)
    _fail(group, 120)
    group.wait(1, follows=False)
    group.report(0, state="idle")
    group.report(1, state="idle", exit_code=None)
    group.wait(2)
    group.report(0, 1, generation=2, state="running", phase="starting", step=0)
    assert _record(group).resumed_step is None
    group.report(0, 1, phase="training", step=80)
    assert _record(group).resumed_step == 80


def test_no_second_of_two_failures_in_a_row_is_counted_twice():
    group = Group(2)
    group.join(0, 1, local_steps=(100,))
    group.follow()
    group.report(0, 1, step=120)
    began = group.now
    group.wait(1)
    _fail(group, 120)
    group.wait(5, follows=True)
    _fail(group, 110)
    group.wait(5, follows=True)
    group.report(0, step=121)
    first, second = group.order(0).recoveries
    assert (first.step, second.step) == (120, 110)
    assert first.resumed_at is None
    assert second.resumed_at == pytest.approx(group.now + UNIX)
    assert first.lost_seconds + second.lost_seconds == pytest.approx(group.now - began)


def test_a_failure_behind_the_last_step_is_over_when_the_model_is_published_again():
    group = Group(2)
    group.join(0, 1, local_steps=(500,))
    group.follow()
    group.report(0, 1, step=500, phase="publishing")
    _fail(group, 500)
    group.wait(2, follows=True)
    group.report(0, 1, phase="evaluating")
    assert _record(group).resumed_at is None
    group.report(0, phase="publishing")
    assert _record(group).resumed_at is not None


def test_a_failure_before_any_step_loses_the_time_since_the_start():
    group = Group(2)
    group.start(step=0)
    group.wait(7)
    _fail(group, 0)
    assert _record(group).lost_seconds == pytest.approx(7, abs=0.2)


def test_only_the_newest_records_are_kept_but_all_are_counted():
    group = Group(2, max_restarts=100)
    group.start()
    for step in range(1, 31):
        _fail(group, step)
        group.wait(0.3, follows=True)
    order = group.order(0)
    assert [record.generation for record in order.recoveries] == list(range(11, 31))
    assert order.restarts == 30


def test_a_lost_members_late_report_of_a_step_does_not_end_the_recovery():
    group = Group(2)
    group.start()
    _fail(group, 10)
    group.report(0, step=11)  # its process was told to stop and had gone on meanwhile
    assert _record(group).resumed_at is None


@pytest.mark.parametrize(
    ("uris", "expected"),
    [({0: "s3://a/0", 1: "s3://a/1"}, "s3://a/1"), ({0: "s3://a/0"}, "s3://a/0"), ({}, None)],
)
def test_the_guilty_ranks_stacks_are_named_even_when_they_come_late(uris, expected):
    group = Group(2)
    group.start()
    _fail(group, 10)
    for rank, uri in uris.items():
        group.report(rank, dump_generation=1, dump_uri=uri, dump_head=f"head of {uri}")
    assert _record(group).dump_uri == expected
    assert _record(group).dump_head == (f"head of {expected}" if expected else "")


def test_a_generation_that_failed_in_its_start_tells_the_step_that_was_finished_before():
    group = Group(2)
    group.start()
    _fail(group, 20)
    group.wait(1, follows=True)
    group.report(1, state="ended", exit_code=int(Code.STORAGE_UNAVAILABLE), step=0)
    group.settle()
    assert [record.step for record in group.order(0).recoveries] == [20, 20]


def test_stacks_whose_upload_outlasts_the_next_generations_start_are_still_named():
    group = Group(2)
    group.start()
    _fail(group, 10)
    group.report(1, dump_generation=1, dump_head="head")
    assert (_record(group).dump_uri, _record(group).dump_head) == (None, "head")  # nothing lies there yet
    group.follow()
    group.report(1, step=12)
    group.report(1, dump_generation=1, dump_uri="s3://a/1", dump_head="head")
    assert _record(group).dump_uri == "s3://a/1"


def test_stacks_of_a_generation_that_got_over_its_hang_belong_to_no_other_failure():
    group = Group(2)
    group.start()
    _fail(group, 10)
    group.follow()
    _fail(group, 20)
    group.report(1, dump_generation=1, dump_uri="s3://a/1", dump_head="head")
    first, second = group.order(0).recoveries
    assert (first.dump_uri, second.dump_uri) == ("s3://a/1", None)


def test_a_restarted_coordinator_goes_on_counting_the_time_of_an_open_record():
    group = Group(2)
    group.start()
    group.wait(2)
    _fail(group, 0)
    order = group.order(0)
    open_seconds = order.recoveries[-1].lost_seconds
    group.coordinator, group.reports = group.build_coordinator(), {}
    group.join(1, hello={"recoveries": order.recoveries, "restarts": order.restarts}, generation=1, state="idle")
    group.wait(3)
    assert group.coordinator.recoveries(group.now)[-1].lost_seconds == pytest.approx(open_seconds + 3)


def test_the_record_of_a_group_that_leaves_loses_no_more_time():
    group = Group(2, max_restarts=1)
    group.start()
    group.wait(2)
    _fail(group, 0)
    group.wait(5, follows=True)
    _fail(group, 0, status=Code.DATA_CORRUPT)
    assert group.coordinator.is_over
    record = _record(group)
    group.wait(60)
    assert group.coordinator.recoveries(group.now)[-1] == record
    assert record.resumed_at is None


def test_the_record_of_a_group_that_is_done_is_over():
    group = Group(2)
    group.start()
    _fail(group, 10)
    group.wait(5, follows=True)
    group.report(0, 1, step=10, state="ended", exit_code=0)
    assert group.coordinator.is_over
    assert _record(group).resumed_at == pytest.approx(group.now + UNIX)
