import pathlib
import subprocess
import sys
import threading

import pytest

import waiting
from imagetrain_trainer.training import reporter
from imagetrain_trainer.worker import progress_block

GIL_KEEPER = """
import ctypes, pathlib, sys
from imagetrain_trainer.training import reporter
reporter.Reporter(pathlib.Path(sys.argv[1]), 0).enter("training")
sys.stdin.read(1)
ctypes.PyDLL(None).sleep(600)
"""


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    progress_block.ProgressBlock(tmp_path / "block", create=True).close()
    return tmp_path / "block"


@pytest.fixture
def report(path: pathlib.Path):
    made = reporter.Reporter(path, 2)
    yield made
    made.close()


@pytest.fixture
def view(path: pathlib.Path):
    block = progress_block.ProgressBlock(path)
    yield block
    block.close()


def test_heart_beats_whatever_the_other_threads_do(report, view) -> None:
    waiting.until(lambda: view.read().beat_at > 0)
    first = view.read()
    waiting.until(lambda: view.read().beat_at > first.beat_at)
    assert view.read().updated_at == first.updated_at  # a beat is no report


def test_heart_stands_still_while_native_code_keeps_the_interpreters_lock(path, view) -> None:
    command = [sys.executable, "-c", GIL_KEEPER, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        waiting.until(lambda: view.read().phase == "training" and view.read().beat_at > 0)
        process.stdin.write(b"x")
        process.stdin.flush()
        seen: list[float] = []

        def stands_still() -> bool:
            seen.append(view.read().beat_at)
            return len(seen) > 100 and seen[-1] == seen[-100]  # for four beats

        waiting.until(stands_still)
        process.kill()


def test_marks_are_seen_at_once_without_a_report(report, view) -> None:
    before = view.read()
    report.enter_step(41)
    with report.waiting("input"):
        assert (view.read().entered_step, view.read().waiting_for) == (41, "input")
    assert view.read().waiting_for == ""
    assert view.read().updated_at == before.updated_at


def test_phase_begins_with_its_wait_and_the_next_ends_it(report, view) -> None:
    report.enter("starting", "waiting for 2 worker(s)", "peers")
    assert (view.read().phase, view.read().waiting_for) == ("starting", "peers")
    report.enter("training")
    assert view.read().waiting_for == ""


def test_new_reporter_forgets_the_marks_of_the_last(path, view) -> None:
    first = reporter.Reporter(path, 2)
    first.enter_step(41)
    first.enter("training", "", "peers")
    first.close()
    second = reporter.Reporter(path, 2)
    assert (view.read().entered_step, view.read().waiting_for, view.read().phase) == (0, "", "starting")
    second.close()


def test_several_threads_may_report(report, view) -> None:
    def publish(name: str) -> None:
        for number in range(300):
            report.publish(**{name: number})
            report.enter("training" if number % 2 else "evaluating")

    threads = [threading.Thread(target=publish, args=(name,)) for name in ("step", "images", "epoch")]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        view.read()
    for thread in threads:
        thread.join()
    last = view.read()
    assert (last.step, last.images, last.epoch, last.rank) == (299, 299, 299, 2)


def test_a_resumed_process_goes_on_with_the_runs_timeline(report, path) -> None:
    report.enter("training", "compiling the first step")
    report.publish(images=8)
    report.record_steps(2, 8, 0.1, 0.01)
    kept = report.timeline()
    assert set().union(*kept["columns"]) >= {"starting"}
    successor = reporter.Reporter(path, 2)
    try:
        successor.resume_timeline(kept)
        joined = successor.timeline()
        assert (joined["end"] >= kept["end"], joined["restarts"], kept["restarts"]) == (True, 1, 0)
        assert set().union(*joined["columns"]) >= {"starting", "recovery"}
    finally:
        successor.close()
