"""When a second request is due, without clock or server."""

import hypothesis
import pytest
from hypothesis import strategies

from imagetrain_trainer.storage import hedging

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("values", "fraction", "expected"),
    [
        ([], 0.5, 0.0),  # nothing is known
        ([3.0], 0.99, 3.0),
        ([3.0, 1.0, 2.0, 4.0], 0.0, 1.0),
        ([3.0, 1.0, 2.0, 4.0], 0.5, 3.0),
        ([3.0, 1.0, 2.0, 4.0], 1.0, 4.0),
        ([9.0, 9.0, 1.0, 2.0, 3.0, 4.0], 1.0, 4.0),  # the nines have left the window of four
    ],
)
def test_quantiles_are_of_the_window(values, fraction, expected):
    quantile = hedging.MovingQuantile(4)
    for value in values:
        quantile.add(value)
    assert quantile.at(fraction) == expected


@hypothesis.given(strategies.lists(strategies.floats(0, 100), max_size=60), strategies.floats(0, 1))
def test_a_quantile_is_what_sorting_the_last_values_gives(values, fraction):
    quantile = hedging.MovingQuantile(16)
    for value in values:
        quantile.add(value)
    last = sorted(values[-16:])
    assert len(quantile) == len(last)
    assert quantile.at(fraction) == (last[min(len(last) - 1, int(fraction * len(last)))] if last else 0)


@pytest.mark.parametrize(
    ("first_bytes", "fields", "expected"),
    [
        ([], {}, 0.5),  # the cold wait
        ([0.1] * 7, {}, 0.5),
        ([0.1] * 8, {}, 0.2),
        ([0.001] * 8, {}, 0.1),  # never shorter than the least
        ([0.1] * 96 + [2.0] * 4, {}, 0.2),  # stalls below 1 - quantile do not stretch it
        ([0.1] * 90 + [2.0] * 10, {}, 4.0),  # many late answers are how the server is
        ([0.1] * 16, {"fraction": 0}, None),
        ([0.1] * 16, {"margin": 3.0}, 0.3),
    ],
)
def test_a_first_byte_is_late_past_the_quantile_and_its_margin(first_bytes, fields, expected):
    policy = hedging.HedgePolicy(hedging.HedgeOptions(**fields))
    for seconds in first_bytes:
        policy.note_first_byte(seconds)
    assert policy.first_byte_wait() == (None if expected is None else pytest.approx(expected))


def test_a_body_is_late_by_its_length():
    policy = hedging.HedgePolicy(hedging.HedgeOptions())
    for _ in range(16):
        policy.note_body(0.1, MIB)
    assert policy.body_wait(8 * MIB) == pytest.approx(1.6)
    assert policy.body_wait(1) == pytest.approx(0.1)  # the least
    for _ in range(300):
        policy.note_body(0.1, 1000)  # the time of a small body says nothing of a rate
    assert policy.body_wait(1000) == pytest.approx(0.2)


@hypothesis.given(
    fraction=strategies.sampled_from([0.0, 0.02, 0.5, 1.0]),
    burst=strategies.sampled_from([0.0, 1.0, 4.0]),
    events=strategies.lists(strategies.booleans(), max_size=300),
)
def test_hedges_never_exceed_their_share_of_requests_and_the_burst(fraction, burst, events):
    policy = hedging.HedgePolicy(hedging.HedgeOptions(fraction=fraction, burst=burst))
    requests = hedges = 0
    for is_request in events:
        if is_request:
            policy.note_request()
            requests += 1
        else:
            hedges += policy.try_spend()
        assert hedges <= fraction * requests + burst + 1e-9


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fraction": 1.5}, "fraction must be from 0 to 1, got 1.5"),
        ({"quantile": -0.1}, "quantile must be from 0 to 1, got -0.1"),
        ({"margin": 0.9}, "margin must be at least 1, got 0.9"),
        ({"warmup": 0}, r"warmup must be from 1 to window \(256\), got 0"),
        ({"warmup": 300}, r"warmup must be from 1 to window \(256\), got 300"),
        ({"burst": -1}, "burst must be at least 0, got -1"),
    ],
)
def test_impossible_options_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        hedging.HedgeOptions(**fields)
