import re

import pytest

from imagetrain_trainer.publish import timeline_chart


def build(columns, width=1.0, restarts=0):
    chart = timeline_chart.build_timeline_chart({"columns": columns, "width": width, "restarts": restarts})
    assert chart is not None
    return chart


def rectangles(band):
    """Return x, y, width, height of each."""
    found = re.findall(r"M([\d.]+) ([\d.]+)h([\d.]+)v([\d.]+)h-([\d.]+)z", band.path)
    assert "".join(f"M{x} {y}h{w}v{h}h-{back}z" for x, y, w, h, back in found) == band.path
    return [tuple(map(float, each[:4])) for each in found]


def test_goodput_is_the_share_of_training_and_validation_before_publishing():
    chart = build(
        [{"starting": 10.0}, {"training": 6.0, "checkpoint": 4.0}, {"evaluation": 4.0, "publishing": 6.0}], 10.0
    )
    assert chart.goodput == pytest.approx(10.0 / 24.0)
    assert chart.seconds == pytest.approx(24.0)
    assert {band.state: band.text for band in chart.bands}["training"] == "6.00 s, 25.0 %"


def test_bands_lie_on_each_other_and_fill_a_full_column():
    chart = build([{"training": 0.5, "recovery": 0.25, "input_stall": 0.25}, {"training": 1.0}])
    by_state = {band.state: rectangles(band) for band in chart.bands}
    assert by_state["training"] == [(8.0, 45.0, 492.0, 45.0), (500.0, 0.0, 492.0, 90.0)]
    assert by_state["input_stall"] == [(8.0, 22.5, 492.0, 22.5)]
    assert by_state["recovery"] == [(8.0, 0.0, 492.0, 22.5)]


def test_columns_that_are_alike_are_one_rectangle():
    chart = build([{"training": 2.0}] * 200 + [{"recovery": 2.0}] * 3 + [{"training": 2.0}] * 37, 2.0, restarts=1)
    assert {band.state: len(rectangles(band)) for band in chart.bands} == {"training": 2, "recovery": 1}
    assert chart.restarts == 1


def test_publishing_at_the_end_is_not_drawn():
    chart = build([{"training": 1.0}, {"publishing": 1.0}, {"publishing": 1.0}])
    (band,) = chart.bands
    assert rectangles(band) == [(8.0, 0.0, 984.0, 90.0)]


@pytest.mark.parametrize(
    ("columns", "width", "labels"),
    [
        (3, 1.0, ["0 s", "1 s", "2 s", "3 s"]),
        (100, 1.0, ["0 s", "10 s", "20 s", "30 s", "40 s", "50 s", "1 min", "1:10", "1:20", "1:30", "1:40"]),
        (240, 32.0, ["0 s", "15 min", "30 min", "45 min", "1 h", "75 min", "90 min", "105 min", "2 h"]),
        (200, 65536.0, ["0 s", "384 h", "768 h", "1152 h", "1536 h", "1920 h", "2304 h", "2688 h", "3072 h", "3456 h"]),
    ],
)
def test_ticks_are_round_times(columns, width, labels):
    chart = build([{"training": width}] * columns, width)
    assert [tick.label for tick in chart.ticks] == labels
    assert all(8 <= tick.position <= 992 for tick in chart.ticks)


@pytest.mark.parametrize(
    "kept", [{}, {"columns": [], "width": 1.0}, {"columns": [{}, {"publishing": 3.0}], "width": 1.0}]
)
def test_without_any_time_there_is_no_picture(kept):
    assert timeline_chart.build_timeline_chart(kept) is None
