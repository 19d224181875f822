"""When a changed status is due."""

from typing import Any

import pytest

import observations
from imagetrain_api import status
from imagetrain_operator import observed, status_pace

NOW = 1000.0


def build_status(progress: dict[str, Any] | None = None, **fields: Any) -> status.JobStatus:
    figures = status.ProgressStatus(**progress) if progress else None
    return status.JobStatus(
        **{"phase": "Starting", "reason": "StartingWorkers", "attempt": 0, "progress": figures, **fields}
    )


@pytest.mark.parametrize(
    ("before", "after", "wait_seconds"),
    [
        # Figures alone: once an interval, counted from the last write.
        ({"progress": {"step": 1}}, {"progress": {"step": 2}}, 9.6),
        # A wording or a count of ready pods: an interval, in which the next step mostly tells of it.
        ({"ready": "0/2"}, {"ready": "1/2"}, 10.0),
        # An ordinary step: a second, in which the next one may follow.
        ({"reason": "StartingWorkers"}, {"reason": "WorkersReady"}, 1.0),
        # A problem, an end, another attempt: at once.
        ({"reason": "StartingWorkers"}, {"reason": "Unschedulable", "phase": "Pending"}, 0.0),
        ({}, {"phase": "Succeeded", "reason": "Completed"}, 0.0),
        ({"attempt": 0}, {"attempt": 1, "reason": "StartingWorkers"}, 0.0),
    ],
)
def test_status_is_written_no_more_often_than_it_tells(
    before: dict[str, Any], after: dict[str, Any], wait_seconds: float
) -> None:
    pace = status_pace.StatusPace(10.0)
    pace.note_written(observations.KEY, NOW - 0.4)
    old, new = (build_status(**{**before, **changes}) for changes in ({}, after))
    assert max(0.0, pace.due_at(observations.KEY, old, new, NOW) - NOW) == pytest.approx(wait_seconds)


@pytest.mark.parametrize(
    ("new", "wait_seconds"),
    [
        (build_status(), 1.0),
        (build_status(reason="Training", phase="Training"), 1.0),  # its pods were faster than that
        (build_status(reason="QuotaExceeded", phase="Pending"), 0.0),
        (build_status(reason="InvalidSpec", phase="Pending", attempt=None), 0.0),
    ],
)
def test_first_status_of_a_job_that_gets_on_waits_for_its_pods(new: status.JobStatus, wait_seconds: float) -> None:
    pace = status_pace.StatusPace(10.0)
    assert max(0.0, pace.due_at(observations.KEY, status.JobStatus(), new, NOW) - NOW) == pytest.approx(wait_seconds)


def test_where_hundreds_start_at_once_each_is_told_within_an_interval_and_few_within_a_second() -> None:
    pace = status_pace.StatusPace(10.0)
    keys = [observed.Key("vision", f"job-{number}") for number in range(500)]
    waits = [pace.due_at(key, status.JobStatus(), build_status(), NOW) - NOW for key in keys]
    assert min(waits) == pytest.approx(1.0)
    assert max(waits) == pytest.approx(10.0)
    assert waits == sorted(waits)
    assert sum(1 for wait in waits if wait < 1.5) <= 25
    # Looked at again, each keeps its place.
    assert [pace.due_at(key, status.JobStatus(), build_status(), NOW + 0.5) - NOW for key in keys] == waits


def test_pace_is_free_again_once_the_crowd_is_over() -> None:
    pace = status_pace.StatusPace(10.0)
    for number in range(500):
        pace.due_at(observed.Key("vision", f"job-{number}"), status.JobStatus(), build_status(), NOW)
    late = NOW + 60
    due = pace.due_at(observed.Key("vision", "late"), status.JobStatus(), build_status(), late)
    assert due - late == pytest.approx(1.0)


def test_job_of_the_same_name_starts_anew() -> None:
    pace = status_pace.StatusPace(10.0)
    first = pace.due_at(observations.KEY, status.JobStatus(), build_status(), NOW)
    pace.forget(observations.KEY)
    assert pace.due_at(observations.KEY, status.JobStatus(), build_status(), NOW + 5) == pytest.approx(first + 5)
