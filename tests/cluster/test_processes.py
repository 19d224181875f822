import os
import subprocess
import sys

import pytest

from imagetrain_cluster import errors, processes

SLEEP = [sys.executable, "-c", "import time; time.sleep(1000)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(1000)",
]


def spawn(tmp_path, arguments):
    return processes.spawn(arguments, log=tmp_path / "log", environment={})


def test_process_that_has_another_ones_id_is_left_alone():
    child = subprocess.Popen(SLEEP)
    try:
        real = processes.of(child.pid)
        processes.end(processes.Process(pid=real.pid, started=real.started - 1))
        assert processes.is_running(real)
    finally:
        child.kill()
        child.wait()


def test_process_is_ended(tmp_path):
    process = spawn(tmp_path, SLEEP)
    assert processes.is_running(process)

    processes.end(process)

    assert not processes.is_running(process)
    with pytest.raises(errors.ClusterError, match="must be running"):
        processes.of(process.pid)


def test_process_that_ignores_the_signal_is_killed(tmp_path):
    process = spawn(tmp_path, DEAF)
    while not (tmp_path / "log").read_text():
        os.sched_yield()

    processes.end(process, timeout_seconds=0.2)

    assert not processes.is_running(process)


def test_ending_an_ended_process_does_nothing(tmp_path):
    process = spawn(tmp_path, [sys.executable, "-c", ""])
    os.waitpid(process.pid, 0)

    processes.end(process)


def test_output_is_appended_to_the_log(tmp_path):
    for word in ("one", "two"):
        process = spawn(tmp_path, [sys.executable, "-c", f"import sys; sys.stderr.write({word!r})"])
        os.waitpid(process.pid, 0)

    assert (tmp_path / "log").read_text() == "onetwo"


def test_process_keeps_the_descriptors_that_it_is_to_inherit_and_no_other(tmp_path):
    kept, other = (os.open("/dev/null", os.O_RDONLY) for _ in range(2))
    try:
        os.set_inheritable(other, True)  # as that of a lock that the shell holds
        script = "import os, sys; print(*(os.path.exists(f'/proc/self/fd/{word}') for word in sys.argv[1:]))"
        command = [sys.executable, "-c", script, str(kept), str(other)]
        process = processes.spawn(command, log=tmp_path / "log", environment={}, inherit=[kept])
        os.waitpid(process.pid, 0)
    finally:
        os.close(kept)
        os.close(other)
    assert (tmp_path / "log").read_text() == "True False\n"
