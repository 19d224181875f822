import math

import pytest

from imagetrain_trainer.publish import charts

SERIES = {"loss": ("training", "train"), "validation_loss": ("validation", "validation")}


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0, 0.25, 0.5, 0.75, 1.0]),
        (0.05, 2.26, [0, 1, 2, 3]),
        (0.97, 0.993, [0.97, 0.98, 0.99, 1.0]),
        (1e-6, 1e-3, [0, 0.00025, 0.0005, 0.00075, 0.001]),
        (5.0, 5.0, [4.5, 4.75, 5.0, 5.25, 5.5]),  # one value only
        (0.0, 0.0, [-1, -0.5, 0, 0.5, 1]),
        (2201.0, 2388.0, [2200, 2250, 2300, 2350, 2400]),
    ],
)
def test_ticks_are_round_and_enclose_the_values(low, high, expected):
    ticks = charts.nice_ticks(low, high, 5)
    assert ticks == pytest.approx(expected)
    assert ticks[0] <= low + 1e-12
    assert ticks[-1] >= high - 1e-12


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [(1, 1, [1]), (1, 5, [1, 2, 3, 4, 5]), (1, 12, [1, 3, 5, 7, 9, 11]), (0, 99, [0, 13, 26, 39, 52, 65, 78, 91])],
)
def test_epoch_ticks_are_whole(first, last, expected):
    assert charts.whole_ticks(first, last, 8) == expected


def test_lines_lie_inside_the_axes_and_higher_values_lie_higher():
    epochs = [{"epoch": number, "loss": 2.0 / number, "validation_loss": 2.5 / number} for number in range(1, 11)]
    chart = charts.build_chart("Loss", epochs, SERIES)
    assert [line.name for line in chart.lines] == ["training", "validation"]
    for line in chart.lines:
        assert len(line.dots) == 10
        assert [dot.x for dot in line.dots] == sorted(dot.x for dot in line.dots)
        assert all(chart.left <= dot.x <= chart.right and chart.top <= dot.y <= chart.bottom for dot in line.dots)
        assert [dot.y for dot in line.dots] == sorted(dot.y for dot in line.dots)
    assert chart.lines[0].points.split()[0] == f"{chart.left}.0,{chart.lines[0].dots[0].y}"
    assert chart.lines[0].dots[3].label == "epoch 4: training 0.5000"


def test_a_missing_or_infinite_value_is_left_out():
    epochs = [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": math.nan}, {"epoch": 3, "loss": None}, {"epoch": 4}]
    chart = charts.build_chart("Loss", epochs, SERIES)
    assert len(chart.lines) == 1
    assert len(chart.lines[0].dots) == 1


def test_without_any_value_there_is_no_chart():
    assert charts.build_chart("Loss", [{"epoch": 1}], SERIES) is None
    assert charts.build_chart("Loss", [], SERIES) is None


def test_many_epochs_have_no_dots():
    epochs = [{"epoch": number, "loss": 1.0 / number} for number in range(1, 200)]
    (line,) = charts.build_chart("Loss", epochs, SERIES).lines
    assert line.dots == ()
    assert len(line.points.split()) == 199
