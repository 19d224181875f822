import pathlib
import threading

import pytest

from imagetrain_api import progress
from imagetrain_trainer.worker import progress_block


@pytest.fixture
def block(tmp_path: pathlib.Path) -> progress_block.ProgressBlock:
    return progress_block.ProgressBlock(tmp_path / "block", create=True)


def test_fresh_block_reads_as_starting(block: progress_block.ProgressBlock) -> None:
    assert block.read() == progress.Progress()


def test_another_process_reads_what_was_written(tmp_path: pathlib.Path, block: progress_block.ProgressBlock) -> None:
    report = progress.Progress(rank=1, phase="training", step=7, seconds_by_phase={"training": 1.5})
    block.write(report)
    assert progress_block.ProgressBlock(tmp_path / "block").read() == report


def test_reader_never_sees_half_a_report(tmp_path: pathlib.Path, block: progress_block.ProgressBlock) -> None:
    done = threading.Event()

    def write() -> None:
        for step in range(3000):
            block.write(progress.Progress(step=step, detail="x" * (step % 300), images=step))
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    view, last = progress_block.ProgressBlock(tmp_path / "block"), 0
    while not done.is_set():
        seen = view.read()
        assert seen.images == seen.step >= last
        assert len(seen.detail) == seen.step % 300
        last = seen.step
    thread.join()


def test_report_too_long_for_the_block_is_refused_and_the_old_one_stays(block: progress_block.ProgressBlock) -> None:
    block.write(progress.Progress(step=1))
    with pytest.raises(ValueError, match="at most"):
        block.write(progress.Progress(seconds_by_phase={f"phase-{n}": 1.0 for n in range(5000)}))
    assert block.read().step == 1


def test_process_that_is_stopped_in_a_write_leaves_the_report_before_it(
    tmp_path: pathlib.Path, block: progress_block.ProgressBlock
) -> None:
    for step in (1, 2):
        block.write(progress.Progress(step=step))
    path = tmp_path / "block"
    memory = path.read_bytes()
    place = memory.index(b'"step":1')  # where the third report is being written
    path.write_bytes(memory[: place - 30] + b"x" * 60 + memory[place + 30 :])
    assert progress_block.ProgressBlock(path).read().step == 2


def test_damaged_block_is_told(tmp_path: pathlib.Path, block: progress_block.ProgressBlock) -> None:
    block.write(progress.Progress(step=1))
    path = tmp_path / "block"
    path.write_bytes(path.read_bytes().replace(b'"step":1', b'"step":9'))
    with pytest.raises(TimeoutError, match="damaged"):
        progress_block.ProgressBlock(path).read()


def test_marks_are_read_with_the_report_and_need_no_new_one(block: progress_block.ProgressBlock) -> None:
    block.write(progress.Progress(step=3, loss=0.5))
    block.mark_beat(1_700_000_000.25)
    block.mark_step(4)
    block.mark_wait("input")
    marks = {"entered_step": 4, "entered_last_step": 4, "waiting_for": "input", "beat_at": 1_700_000_000.25}
    assert block.read() == progress.Progress(step=3, loss=0.5, **marks)


def test_marks_are_read_before_the_first_report(block: progress_block.ProgressBlock) -> None:
    block.mark_beat(12.0)
    assert block.read() == progress.Progress(beat_at=12.0)


def test_unknown_wait_is_refused(block: progress_block.ProgressBlock) -> None:
    with pytest.raises(ValueError, match="luck"):
        block.mark_wait("luck")


def test_closed_block_can_be_deleted_and_made_anew(tmp_path: pathlib.Path, block: progress_block.ProgressBlock) -> None:
    block.write(progress.Progress(step=3))
    block.close()
    assert progress_block.ProgressBlock(tmp_path / "block", create=True).read() == progress.Progress()
