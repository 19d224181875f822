import math

import pytest

from imagetrain_api import job
from imagetrain_trainer.training import cadence

DAY = 86400.0


@pytest.mark.parametrize(
    ("failures", "seconds", "expected"),
    [
        (0, 0.0, DAY),  # the prior alone
        (0, DAY, 2 * DAY),
        (1, 0.0, DAY / 2),
        (99, DAY, 2 * DAY / 100),  # data outweigh the prior
    ],
)
def test_failures_seen_move_the_mean_time_between_them(failures: int, seconds: float, expected: float) -> None:
    assert cadence.estimate_failure_interval(failures, seconds) == pytest.approx(expected)


def test_optimal_interval_is_young_s_where_saves_are_cheap() -> None:
    assert cadence.optimal_interval(0.1, DAY) == pytest.approx(math.sqrt(2 * 0.1 * DAY), rel=0.01)


def test_optimal_interval_loses_least() -> None:
    """Daly's own measure: expected run time for a second of work, by an exponential law of failures."""
    save, mean = 2.0, 300.0

    def cost(interval: float) -> float:
        return mean * (math.exp((interval + save) / mean) - 1) / interval

    best = cadence.optimal_interval(save, mean)
    assert cost(best) <= 1.0001 * min(cost(step / 10) for step in range(10, 3000))


def test_save_longer_than_the_time_between_failures_happens_once_in_it() -> None:
    assert cadence.optimal_interval(100.0, 40.0) == 40.0


@pytest.mark.parametrize(
    ("settings", "stall", "failures", "least", "most"),
    [
        ({}, 0.5, 0, 60.0, 60.0),
        ({"every_seconds": 7}, 0.5, 0, 7.0, 7.0),
        ({"auto": True}, None, 0, 100.0, 160.0),  # until a save was measured
        ({"auto": True}, 0.01, 0, 40.0, 42.0),
        ({"auto": True}, 0.01, 1000, cadence.LEAST_SECONDS, cadence.LEAST_SECONDS),
        ({"auto": True}, 3600.0, 0, cadence.MOST_SECONDS, cadence.MOST_SECONDS),
    ],
)
def test_interval_is_the_job_s_or_follows_what_was_measured(
    settings: dict[str, int], stall: float | None, failures: int, least: float, most: float
) -> None:
    found = cadence.choose_interval(
        job.CheckpointSettings(**settings), stall_seconds=stall, failures=failures, seconds=0.0
    )
    assert least <= found <= most


@pytest.mark.parametrize(("step", "expected"), [(0, 10), (1, 9), (9, 1), (10, 10)])
def test_steps_to_the_next_save_end_at_a_multiple(step: int, expected: int) -> None:
    assert cadence.steps_to_save(job.CheckpointSettings(every_steps=10), step) == expected


def test_cadence_by_time_bounds_no_steps() -> None:
    assert cadence.steps_to_save(job.CheckpointSettings(), 3) is None


@pytest.mark.parametrize(
    ("copy_seconds", "state_bytes", "expected"),
    [(None, 10**6, 1.0), (None, 10**9, 200.0), (0.001, 10**9, 1.0), (0.1, 10**6, 20.0)],
)
def test_local_copies_take_half_a_percent_of_the_time_at_most(
    copy_seconds: float | None, state_bytes: int, expected: float
) -> None:
    assert cadence.copy_interval(copy_seconds, state_bytes) == pytest.approx(expected)
