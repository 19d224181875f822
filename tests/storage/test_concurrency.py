"""How the number of requests under way follows a server's answers, without one."""

import pytest

from imagetrain_trainer.storage import concurrency


def limit(**fields):
    return concurrency.AdaptiveLimit(concurrency.ConcurrencyOptions(**fields))


def test_a_limit_grows_by_about_one_a_round_trip_up_to_its_bound():
    adaptive = limit(initial=4, most=8)
    for expected in (4, 5, 6, 7, 8, 8):
        for _ in range(adaptive.limit):
            adaptive.note_success(adaptive.limit)
        assert expected <= adaptive.limit <= expected + 1
    assert adaptive.limit == 8


def test_a_limit_that_is_not_reached_does_not_grow():
    adaptive = limit(initial=4)
    for _ in range(100):
        adaptive.note_success(3)
    assert adaptive.limit == 4


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([], 16),
        ([(0.0, 1.0)], 11),
        ([(0.0, 1.0), (0.5, 1.1), (0.9, 1.2)], 11),  # sent before the decrease: the same overload
        ([(0.0, 1.0), (1.0, 2.0)], 7),  # sent after it: still too much
        ([(float(second), second + 0.5) for second in range(50)], 2),  # never below the least
    ],
)
def test_one_overload_shrinks_the_limit_once(answers, expected):
    adaptive = limit(initial=16, least=2)
    for sent_at, now in answers:
        adaptive.note_throttled(sent_at, now)
    assert adaptive.limit == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"initial": 0, "least": 0}, "at least 1, got 0, 0 and 64"),
        ({"initial": 65}, "in this order and at least 1, got 1, 65 and 64"),
        ({"decrease": 1.0}, "decrease must be between 0 and 1, got 1.0"),
    ],
)
def test_impossible_options_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        concurrency.ConcurrencyOptions(**fields)
