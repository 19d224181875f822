"""Real processes that hang in every way that can be made here, and what is told of each."""

import pathlib
import shutil
import signal
import subprocess
import sys
import threading

import pytest

import waiting
from imagetrain_trainer.worker import process_state, stack_text, stacks

BEGIN = """
import ctypes, os, pathlib, re, sys, threading, time
from imagetrain_trainer.training import diagnosis
diagnosis.enable(pathlib.Path(sys.argv[1]))
def begin():
    os.write(1, b"ready\\n")
"""
SLEEP = """
def wait_for_nothing():
    begin()
    time.sleep(600)
wait_for_nothing()
"""
NATIVE_SLEEP = """
def call_native_code():
    begin()
    while True:  # a signal ends a sleep
        ctypes.PyDLL(None).sleep(600)  # keeps the interpreter's lock
call_native_code()
"""
NATIVE_WORK = """
def match_for_ever():
    begin()
    re.match("(a*)*b", "a" * 64)
match_for_ever()
"""
DEADLOCK = """
first, second = threading.Lock(), threading.Lock()
barrier = threading.Barrier(2)
def take(mine, other):
    with mine:
        barrier.wait()
        begin()
        other.acquire()
thread = threading.Thread(target=take, args=(second, first), daemon=True)
thread.start()
def take_both():
    take(first, second)
take_both()
"""


@pytest.fixture(params=["py-spy", "faulthandler"])
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "faulthandler":
        monkeypatch.setattr(stacks, "_spy", lambda *_args, **_more: "")
    elif not pathlib.Path(sys.executable).with_name("py-spy").exists() and shutil.which("py-spy") is None:
        pytest.skip("py-spy is not installed")
    return request.param


@pytest.fixture
def start(tmp_path: pathlib.Path):
    """Return a function that starts a program with its diagnosis enabled and waits until it says that it is ready."""
    processes = []

    def run(program: str) -> subprocess.Popen[bytes]:
        path = tmp_path / "program.py"
        path.write_text(BEGIN + program)
        command = [sys.executable, path, tmp_path / stacks.STACK_FILE]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        processes.append(process)
        for _ in range(2 if program == DEADLOCK else 1):
            assert process.stdout.readline() == b"ready\n"
        return process

    yield run
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def take(process: subprocess.Popen[bytes], folder: pathlib.Path) -> stack_text.StackDump:
    """Take the stacks when the process is where it hangs."""
    while True:
        dump = stacks.take(process.pid, folder)
        if not dump.place.startswith("begin "):
            return dump


@pytest.mark.parametrize(
    ("program", "function", "state"),
    [
        (SLEEP, "wait_for_nothing", "S"),
        (NATIVE_SLEEP, "call_native_code", "S"),
        (NATIVE_WORK, "match_for_ever", "R"),
        (DEADLOCK, "take", "S"),
    ],
)
def test_function_that_hangs_is_named(start, source, tmp_path, program, function, state) -> None:
    process = start(program)
    waiting.until(lambda: process_state.read_process(process.pid).state == state)
    dump = take(process, tmp_path)
    assert dump.place.startswith(f"{function} (program.py:")
    assert stack_text.head(dump.text).startswith(f"{function} (program.py:")
    assert dump.waits_for == ""
    assert f"Process {process.pid}: state" in dump.text
    assert process.poll() is None


def test_both_sides_of_a_deadlock_are_in_the_dump(start, source, tmp_path) -> None:
    dump = take(start(DEADLOCK), tmp_path)
    threads = stack_text.parse(dump.text)
    assert [thread.own[-1].function for thread in threads] == ["<module>", "take"]
    assert all(any(frame.function == "take" for frame in thread.own) for thread in threads)


def test_process_that_is_stopped_is_told_as_such_and_stays_so(start, tmp_path, source) -> None:
    process = start(SLEEP)
    process.send_signal(signal.SIGSTOP)
    waiting.until(lambda: process_state.read_process(process.pid).state == "T")
    dump = stacks.take(process.pid, tmp_path)
    assert "state T" in dump.text
    assert f"{process.pid} T " in dump.text
    assert process_state.read_process(process.pid).state == "T"
    if source == "py-spy":
        assert "wait_for_nothing (program.py:" in stack_text.head(dump.text)
    else:
        assert "No Python stacks" in dump.text


def test_second_dump_has_nothing_of_the_first(start, source, tmp_path) -> None:
    process = start(SLEEP)
    first, second = (stack_text.parse(stacks.take(process.pid, tmp_path).text) for _ in range(2))
    assert len(first) == len(second) == 1


def test_process_that_does_not_listen_is_not_ended_by_the_question(tmp_path, source) -> None:
    with subprocess.Popen(["/bin/sleep", "600"]) as process:
        dump = stacks.take(process.pid, tmp_path)
        assert "No Python stacks" in dump.text
        assert (dump.place, dump.waits_for) == ("", "")
        assert process.poll() is None
        process.kill()


def test_process_that_is_gone_leaves_a_dump_that_says_so(tmp_path, source) -> None:
    process = subprocess.Popen(["/bin/true"])
    process.wait()
    assert f"Process {process.pid} has ended." in stacks.take(process.pid, tmp_path).text


def test_other_threads_may_ask_at_the_same_time(start, tmp_path) -> None:
    process = start(SLEEP)
    dumps = []
    threads = [threading.Thread(target=lambda: dumps.append(stacks.take(process.pid, tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(dumps) == 2
    assert process.poll() is None
