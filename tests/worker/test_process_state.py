import os
import pathlib
import signal
import subprocess
import sys

import pytest

import waiting
from imagetrain_trainer.worker import process_state


@pytest.fixture
def sleeper(tmp_path: pathlib.Path):
    """Yield a sleeping process whose name would mislead a careless parser."""
    program = tmp_path / "a) S 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "600"]) as process:
        waiting.until(lambda: process_state.read_process(process.pid).state == "S")
        yield process
        process.kill()


def test_state_of_a_process_is_the_kernels(sleeper) -> None:
    state = process_state.read_process(sleeper.pid)
    assert (state.state, state.threads) == ("S", 1)
    assert 0 <= state.cpu_seconds < 1
    thread = process_state.read_threads(sleeper.pid)[0]
    assert (thread.id, thread.name, thread.state) == (sleeper.pid, "a) S 1 (b", "S")


def test_stopped_process_is_told_from_a_sleeping_one(sleeper) -> None:
    sleeper.send_signal(signal.SIGSTOP)
    waiting.until(lambda: process_state.read_process(sleeper.pid).state == process_state.STOPPED)
    sleeper.send_signal(signal.SIGCONT)
    waiting.until(lambda: process_state.read_process(sleeper.pid).state == "S")


def test_process_that_has_ended_is_a_zombie_and_then_nothing(sleeper) -> None:
    sleeper.kill()
    waiting.until(lambda: process_state.read_process(sleeper.pid).state == "Z")
    sleeper.wait()
    assert process_state.read_process(sleeper.pid) is None
    assert process_state.read_threads(sleeper.pid) == ()
    assert not process_state.catches(sleeper.pid, signal.SIGUSR1)


def test_handler_of_a_signal_is_seen_before_the_signal_is_sent(sleeper) -> None:
    assert not process_state.catches(sleeper.pid, signal.SIGUSR1)
    program = "import signal; signal.signal(signal.SIGUSR1, print); print('ready', flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert process_state.catches(process.pid, signal.SIGUSR1)
        assert not process_state.catches(process.pid, signal.SIGUSR2)
        process.kill()


def test_processor_time_of_all_threads_counts() -> None:
    before = process_state.read_process(os.getpid()).cpu_seconds

    def burn() -> bool:
        sum(range(100_000))
        return process_state.read_process(os.getpid()).cpu_seconds > before

    waiting.until(burn)
