import pytest

from imagetrain_trainer.publish import figures, plain_json


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.977 KiB"),
        (315024, "308 KiB"),
        (1191336, "1.14 MiB"),
        (5 * 2**40, "5.00 TiB"),
    ],
)
def test_sizes(size_bytes, text):
    assert figures.format_bytes(size_bytes) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0712, "0.0712"),
        (2.26, "2.26"),
        (12.345, "12.3"),
        (2312.4, "2,312"),
        (0.00025, "0.000250"),
        (1e-7, "1.00e-07"),
        (1.5e9, "1.50e+09"),
        (-3.14159, "-3.14"),
        (float("inf"), "inf"),
    ],
)
def test_digits(value, text):
    assert figures.format_digits(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.61, "610 ms"), (42.3, "42.3 s"), (245, "4 min 5 s"), (7380, "2 h 3 min"), (0, "0 ms")],
)
def test_durations(seconds, text):
    assert figures.format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "yes"),
        (3, "3"),
        (12345, "12,345"),
        (0.001, "0.001"),
        (2.0, "2"),
        (1000.5, "1,000"),
        (12000.0, "12,000"),
        (1e-7, "1e-07"),
        (0.0, "0"),
        ([28, 28, 1], "28 x 28 x 1"),
        ("adam", "adam"),
    ],
)
def test_values(value, text):
    assert figures.format_value(value) == text


def test_percent_and_milliseconds():
    assert figures.format_percent(0.98123) == "98.12 %"
    assert figures.format_milliseconds(0.084) == "0.0840 ms"
    assert [figures.format_latency(each) for each in (0.084, 0.12)] == ["84.0 µs", "0.120 ms"]


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0.0 %"), (0.0002, "< 0.1 %"), (0.0005, "0.1 %"), (0.4656, "46.6 %"), (1.0, "100.0 %")]
)
def test_shares_of_time_have_one_decimal_and_a_small_one_is_not_called_nothing(share, text):
    assert figures.format_share(share) == text


def test_training_figures_become_plain_json():
    numpy = pytest.importorskip("numpy")
    value = {"a": numpy.float32(0.5), "b": (1, numpy.arange(2)), 3: float("nan"), "c": {"d": numpy.inf}, "e": "x"}
    assert plain_json.to_plain(value) == {"a": 0.5, "b": [1, [0, 1]], "3": None, "c": {"d": None}, "e": "x"}
