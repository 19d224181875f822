"""When a failed read is tried again and when it is given up, without clock or server."""

import hypothesis
import pytest
from hypothesis import strategies

from imagetrain_trainer.storage import retrying

OPTIONS = retrying.RetryOptions(give_up_seconds=60, first_wait_seconds=0.1, longest_wait_seconds=3)


@pytest.mark.parametrize(
    ("failures", "random", "expected"),
    [
        (1, 0.0, 0.0),  # full jitter: any wait from none to the longest
        (1, 1.0, 0.1),
        (2, 1.0, 0.2),
        (2, 0.5, 0.1),
        (5, 1.0, 1.6),
        (6, 1.0, 3.0),
        (10_000, 1.0, 3.0),
    ],
)
def test_waits_double_under_full_jitter(failures, random, expected):
    policy = retrying.RetryPolicy(OPTIONS)
    assert policy.plan_retry(0.0, failures, 1.0, random) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (0.0, 3.0),
        (58.0, 2.0),  # the last try is at the end of the time, not before
        (59.999, 0.001),
        (60.0, None),
        (90.0, None),
    ],
)
def test_a_read_is_given_up_by_time(now, expected):
    wait = retrying.RetryPolicy(OPTIONS).plan_retry(0.0, 20, now, 1.0)
    assert wait == (None if expected is None else pytest.approx(expected))


def test_a_read_that_begins_late_in_an_outage_is_given_up_with_the_others():
    policy = retrying.RetryPolicy(OPTIONS)
    for now in range(60):
        assert policy.plan_retry(0.0, now + 1, float(now), 0.5) is not None
    assert policy.plan_retry(59.5, 1, 60.0, 0.5) is None
    policy.note_success()
    assert policy.plan_retry(61.0, 1, 61.0, 0.5) is not None


def test_an_old_failure_belongs_to_no_later_outage():
    policy = retrying.RetryPolicy(OPTIONS)
    policy.plan_retry(0.0, 1, 0.0, 0.5)  # nothing was read since, for nothing was asked for
    assert policy.plan_retry(1000.0, 1, 1000.0, 0.5) is not None


@hypothesis.given(strategies.lists(strategies.tuples(strategies.floats(0, 2), strategies.floats(0, 1)), max_size=200))
def test_retries_never_come_faster_than_their_budget(steps):
    options = retrying.RetryOptions(per_second=5, burst=10, give_up_seconds=1e9)
    policy = retrying.RetryPolicy(options)
    now, moments = 0.0, []
    for pause, random in steps:
        now += pause
        wait = policy.plan_retry(now, 1, now, random)
        assert wait is not None
        moments.append(now + wait)
    moments.sort()
    for first, start in enumerate(moments):
        for last, end in enumerate(moments[first:], first):
            assert last - first + 1 <= 2 * options.burst + options.per_second * (end - start) + 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"give_up_seconds": 0}, "give_up_seconds must be above 0, got 0"),
        ({"longest_wait_seconds": -1}, "longest_wait_seconds must be above 0, got -1"),
        ({"burst": 0.5}, "burst must be at least 1, got 0.5"),
    ],
)
def test_impossible_options_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        retrying.RetryOptions(**fields)
