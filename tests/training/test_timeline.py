import json

import pytest

from imagetrain_trainer.training import timeline

UNIX = 1_000_000.0


def spent(made: timeline.Timeline) -> dict[str, float]:
    return {state: pytest.approx(seconds) for state, seconds in timeline.add_up(made).items() if seconds > 0}


def recorded(recorder: timeline.Recorder, unix: float = UNIX) -> timeline.Timeline:
    return timeline.from_json(recorder.snapshot(unix=unix, is_stopped=False))


def test_time_is_shared_out_over_the_columns():
    made = timeline.Timeline()
    made.add("starting", 1.5)
    made.add("training", 2.0)
    assert made.columns == [{"starting": 1.0}, {"starting": 0.5, "training": 0.5}, {"training": 1.0}, {"training": 0.5}]
    assert made.end == pytest.approx(3.5)


@pytest.mark.parametrize("seconds", [239.9, 240.1, 481.0, 1e6])
def test_columns_are_few_and_lose_nothing(seconds):
    made = timeline.Timeline()
    made.add("starting", 3.25)
    made.add("training", seconds)
    made.add("evaluation", 2.5)
    assert len(made.columns) <= timeline.MAX_COLUMNS
    assert spent(made) == {"starting": 3.25, "training": seconds, "evaluation": 2.5}
    assert all(sum(column.values()) <= made.width + 1e-3 for column in made.columns)


def test_many_short_stretches_add_up():
    made = timeline.Timeline()
    for _ in range(20_000):
        made.add("training", 0.0131)
        made.add("checkpoint", 0.0007)
    assert len(made.columns) <= timeline.MAX_COLUMNS
    assert spent(made) == {"training": 262.0, "checkpoint": 14.0}


def test_a_wait_for_input_is_taken_from_the_newest_training():
    made = timeline.Timeline()
    made.add("training", 2.0)
    made.add("evaluation", 1.0)
    made.add("training", 1.0)
    made.turn_into_stall(1.5)
    assert spent(made) == {"training": 1.5, "input_stall": 1.5, "evaluation": 1.0}
    assert made.columns[0] == {"training": 1.0}


def test_the_first_step_belongs_to_the_start():
    recorder = timeline.Recorder(100.0)
    recorder.account("starting", 110.0)
    recorder.account("training", 115.0)
    recorder.note_steps(0.0)
    recorder.account("training", 120.0)
    recorder.note_steps(1.0)
    recorder.account("evaluating", 123.0)
    assert spent(recorded(recorder)) == {"starting": 15.0, "training": 4.0, "input_stall": 1.0, "evaluation": 3.0}


def killed_after(seconds: float, *, is_stopped: bool = False) -> dict[str, object]:
    """Return what the last checkpoint of a process kept: 10 s of start and so many of training, through JSON."""
    recorder = timeline.Recorder(0.0)
    recorder.account("starting", 10.0)
    recorder.note_steps(0.0)
    recorder.account("training", 10.0 + seconds)
    return json.loads(json.dumps(recorder.snapshot(unix=UNIX, is_stopped=is_stopped)))


def test_what_followed_the_checkpoint_and_the_way_back_are_a_recovery():
    kept = killed_after(30.0)
    recorder = timeline.Recorder(500.0)  # its clock began anew
    recorder.account("starting", 504.0)
    recorder.resume(kept, unix=UNIX + 24.0)  # 20 s of lost steps and of absence, 4 s of start
    recorder.account("training", 506.0)
    recorder.note_steps(0.0)
    recorder.account("training", 516.0)
    made = recorded(recorder)
    assert spent(made) == {"starting": 10.0, "training": 40.0, "recovery": 26.0}
    assert (made.end, made.restarts) == (pytest.approx(76.0), 1)


def test_a_pause_that_was_asked_for_is_left_out():
    recorder = timeline.Recorder(0.0)
    recorder.account("starting", 4.0)
    recorder.resume(killed_after(30.0, is_stopped=True), unix=UNIX + 86_400.0)
    recorder.account("training", 6.0)
    recorder.note_steps(0.0)
    recorder.account("training", 16.0)
    made = recorded(recorder)
    assert spent(made) == {"starting": 16.0, "training": 40.0}
    assert (made.restarts, made.is_stopped) == (0, False)


def test_a_clock_that_went_back_makes_no_time():
    recorder = timeline.Recorder(0.0)
    recorder.account("starting", 4.0)
    recorder.resume(killed_after(30.0), unix=UNIX - 3600.0)
    assert spent(recorded(recorder)) == {"starting": 10.0, "training": 30.0, "recovery": 4.0}


def test_a_checkpoint_without_a_timeline_begins_one():
    recorder = timeline.Recorder(0.0)
    recorder.account("starting", 4.0)
    recorder.resume({}, unix=UNIX)
    assert spent(recorded(recorder)) == {"starting": 4.0}
