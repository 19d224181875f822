import dataclasses
import io
import json

import pytest
from rich import console

from imagetrain_api import progress, schema
from imagetrain_api.exit_codes import ExitCode
from imagetrain_client.display import histogram, json_lines, live, plain, wording
from imagetrain_client.executor import events

STARTED = events.Started(
    run_id="r1", job="tiny", workers=2, epochs=3, folder="/runs/r1", output_uri="s3://models/tiny/", is_resumed=False
)
RESTARTED = events.Restarted(
    restart=1, max_restarts=10, reason="PeerLost", rank=1, message="It was ended.", resume_step=5, delay_seconds=1.0
)
RECOVERY = progress.Recovery(
    generation=1, reason="Killed", rank=1, message="Rank 1 was killed (SIGKILL).", step=120, detected_at=1.0
)
LINE = "Rank 1 was killed (SIGKILL) at step 120; the group goes on from step 100 in place, 8.4 s lost."
RECOVERED = events.Recovered(
    recovery=schema.replace(RECOVERY, resumed_step=100, resumed_at=9.0, lost_seconds=8.4), message=LINE
)
EPOCH = events.EpochEnded(
    epoch=1,
    total_epochs=3,
    step=10,
    loss=0.5,
    accuracy=0.75,
    validation_loss=0.25,
    validation_accuracy=0.875,
    images_per_second=100.0,
)
ENDED = events.Ended(
    run_id="r1",
    exit_code=ExitCode.DONE,
    reason="Completed",
    message="",
    rank=None,
    log="/runs/r1/logs/rank-0.log",
    checkpoint_step=30,
    manifest_uri="s3://models/tiny/runs/r1/manifest.json",
    summary={"epochs": 3},
    restarts=1,
    recoveries=1,
    replaced=0,
    seconds=12.5,
)
STOPPING = events.Stopping(cause="interrupted", request=1)


def progressed(**fields):
    state = progress.Progress(**{"phase": "training", "total_epochs": 3, "total_steps": 30, **fields})
    return events.Progressed(progress=state, workers_ready=2, workers=2, full_size=2, restarts=0)


ALL = (STARTED, progressed(step=3, loss=0.6, eta_seconds=65), EPOCH, RECOVERED, RESTARTED, STOPPING, ENDED)


def test_plain_lines_say_each_epoch_and_change_and_progress_now_and_then():
    now, stream = [100.0], io.StringIO()
    with plain.PlainDisplay(stream, lambda: now[0]) as display:
        display.show(STARTED)
        display.show(progressed(step=1))
        display.show(progressed(step=2))
        now[0] += plain.SECONDS_BETWEEN_LINES
        display.show(progressed(step=3, epoch=0, images_per_second=1234.5, eta_seconds=65, loss=0.6, accuracy=0.7))
        display.show(EPOCH)
        display.show(progressed(phase="starting", recoveries=(RECOVERY,)))
        now[0] += plain.SECONDS_BETWEEN_LINES
        display.show(progressed(phase="starting", recoveries=(RECOVERY,)))
        display.show(RECOVERED)
        display.show(RESTARTED)
        display.show(STOPPING)
        display.show(ENDED)
    assert stream.getvalue().splitlines() == [
        "Running tiny as r1 with 2 workers. Logs: /runs/r1/logs",
        "epoch 1/3  step 1/30  0 images/s",
        "epoch 1/3  step 3/30  1,234 images/s  ETA 1:05  loss 0.6000, accuracy 70.00%",
        "epoch 1/3 done  loss 0.5000, accuracy 75.00%  validation loss 0.2500, accuracy 87.50%",
        "recovering: Rank 1 was killed (SIGKILL) at step 120",
        LINE,
        "Restart 1 of 10 in 1 s, from step 5. Rank 1, PeerLost: It was ended.",
        "Interrupted: saving… (interrupt again to stop without saving)",
    ]


def test_every_event_is_one_json_object():
    stream = io.StringIO()
    with json_lines.JsonDisplay(stream) as display:
        for event in ALL:
            display.show(event)
        display.write_end(ENDED, {"testAccuracy": 0.98})
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    names = ["started", "progress", "epoch", "recovered", "restarted", "stopping", "finished"]
    assert [line["event"] for line in lines] == names
    assert (lines[3]["message"], lines[3]["recovery"]["lostSeconds"]) == (LINE, 8.4)
    assert lines[1]["progress"]["totalSteps"] == 30
    assert lines[2]["validationAccuracy"] == 0.875
    assert lines[-1] | {"testAccuracy": 0.98, "exitCode": 0, "restarts": 1, "recoveries": 1} == lines[-1]


def test_the_live_display_draws_every_event():
    stream = io.StringIO()
    target = console.Console(file=stream, force_terminal=True, width=120)
    with live.LiveDisplay(target) as display:
        for event in ALL:
            display.show(event)
        display.show(progressed(step=20, loss=0.1, validation_loss=0.2, validation_accuracy=0.9, detail="[x]"))
    drawn = stream.getvalue()
    assert "Running tiny as r1" in drawn
    assert "20/30" in drawn
    assert "the group goes on from step 100 in place" in drawn


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1:00"), (185, "3:05"), (3723, "1:02:03")]
)
def test_durations(seconds, text):
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 20, "3.0 MiB"), (5 << 50, "5120.0 TiB")],
)
def test_sizes(size_bytes, text):
    assert wording.size(size_bytes) == text


def test_a_state_before_all_workers_are_ready_counts_them():
    waiting = progress.Progress(detail="waiting")
    event = events.Progressed(progress=waiting, workers_ready=1, workers=2, full_size=2, restarts=0)
    assert wording.state(event) == "starting: 1/2 workers ready (waiting)"


def test_a_smaller_group_is_told_in_each_line_and_when_it_changes():
    state = progress.Progress(phase="training", workers=2, step=30, total_steps=40, total_epochs=4)
    event = events.Progressed(progress=state, workers_ready=2, workers=2, full_size=4, restarts=0)
    assert "2 of 4 workers" in wording.state(event)
    assert "of 4" not in wording.state(dataclasses.replace(event, workers=4, workers_ready=4))
    shrunk = events.Resized(workers=2, workers_before=4, full_size=4, step=30)
    assert wording.resized(shrunk) == "The group shrinks to 2 of 4 workers at step 30."
    grown = events.Resized(workers=4, workers_before=2, full_size=4, step=60)
    assert wording.resized(grown) == "The group grows to 4 of 4 workers at step 60."


def test_the_histogram_shows_counts_by_split_and_bars():
    counts = [("cat", {"train": 30, "test": 10}), ("dog", {"train": 15, "test": 5}), ("owl", {})]
    assert histogram.lines(counts, ["train", "test"]) == [
        "class      train       test",
        f"cat           30         10  {'█' * 40}",
        f"dog           15          5  {'█' * 20}",
        "owl            0          0",
    ]


def test_a_long_histogram_is_summed_up():
    counts = [(f"c{i}", {"train": 1}) for i in range(histogram.MOST_CLASSES + 5)]
    assert histogram.lines(counts, ["train"])[-1] == "and 5 more classes with 5 images"
