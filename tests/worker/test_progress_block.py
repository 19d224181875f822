import json
import pathlib
import struct
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


def test_writer_that_died_in_a_write_is_told(tmp_path: pathlib.Path, block: progress_block.ProgressBlock) -> None:
    block.write(progress.Progress(step=1))
    path = tmp_path / "block"
    text = path.read_bytes()
    path.write_bytes(struct.pack("<Q", 3) + text[8:])
    with pytest.raises(TimeoutError, match="never ended"):
        progress_block.ProgressBlock(path).read()


def test_report_is_json_of_the_contract(tmp_path: pathlib.Path, block: progress_block.ProgressBlock) -> None:
    block.write(progress.Progress(step=3, loss=0.5))
    length = struct.unpack_from("<Q", (tmp_path / "block").read_bytes(), 8)[0]
    document = json.loads((tmp_path / "block").read_bytes()[16 : 16 + length])
    assert document["step"] == 3
    assert document["loss"] == 0.5
