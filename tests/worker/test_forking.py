import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from imagetrain_trainer.worker import forking, lifeline, training_process

MODULE = "stand_in_training"
SUPPORT = pathlib.Path(__file__).parents[1] / "support"
DEADLINE_SECONDS = 30.0


def variables(action: str = "", **more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SUPPORT), "STAND_IN": action, **more}


def wait_until(holds, what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def log(tmp_path: pathlib.Path):
    with (tmp_path / "log").open("w+b") as file:
        yield file


def text(log) -> str:
    return pathlib.Path(log.name).read_text()


@pytest.fixture(params=["fork server", "cold start"])
def starter(request, log):
    if request.param == "cold start":
        made = training_process.ColdStart(log, MODULE)
    else:
        made = forking.ForkServer(variables(ONLY_OF_THE_SERVER="1"), log, MODULE)
    yield made
    made.close()


@pytest.fixture
def fork_server(log):
    made = forking.ForkServer(variables(), log, MODULE)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("action", "status"),
    [("exit:0", 0), ("exit:84", 84), ("raise", 1), (f"kill:{signal.SIGKILL}", -9), (f"kill:{signal.SIGSEGV}", -11)],
)
def test_end_of_a_training_process_is_told_as_of_any_process(starter, action: str, status: int) -> None:
    process = starter.start(variables(action))
    assert process.wait(DEADLINE_SECONDS) == status
    assert process.poll() == status


def test_training_process_finds_itself_as_if_started_afresh(starter, log, tmp_path) -> None:
    wanted = variables("tell", TMPDIR=str(tmp_path), ONLY_MINE="2")
    process = starter.start(wanted)
    assert process.wait(DEADLINE_SECONDS) == 0
    found = json.loads(text(log).splitlines()[-1])
    assert found["pid"] == found["session"] == process.pid
    assert {name: value for name, value in found["variables"].items() if name in wanted} == wanted
    assert "ONLY_OF_THE_SERVER" not in found["variables"]
    assert found["temporary"] == str(tmp_path)
    is_ignored_here = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # as in a shell's background job
    assert found["interrupt"] or (is_ignored_here and isinstance(starter, training_process.ColdStart))
    assert found["descriptors"][:3] == [0, 1, 2]
    assert len(found["descriptors"]) == 4  # and the folder that it lists


def test_two_training_processes_of_one_server_draw_different_random_numbers(fork_server, log) -> None:
    for _ in range(2):
        assert fork_server.start(variables("tell")).wait(DEADLINE_SECONDS) == 0
    first, second = (json.loads(line)["random"] for line in text(log).splitlines())
    assert first != second


def test_what_a_training_process_left_behind_ends_with_it(starter, log) -> None:
    assert starter.start(variables("orphan")).wait(DEADLINE_SECONDS) == 0
    orphan = int(text(log).split()[-1])
    wait_until(lambda: not is_alive(orphan), "the orphan lives on")


def test_frozen_training_process_can_be_killed(starter, log) -> None:
    process = starter.start(variables("sleep"))
    wait_until(lambda: "ready" in text(log), "it never ran")
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    process.kill()
    assert process.wait(DEADLINE_SECONDS) == -signal.SIGKILL


def test_killed_fork_server_takes_its_training_process_along_and_is_started_anew(fork_server, log) -> None:
    process = fork_server.start(variables("sleep"))
    wait_until(lambda: "ready" in text(log), "it never ran")
    first = fork_server.pid
    os.kill(first, signal.SIGKILL)
    assert process.wait(DEADLINE_SECONDS) == -signal.SIGKILL
    assert not is_alive(process.pid)
    assert fork_server.start(variables("exit:3")).wait(DEADLINE_SECONDS) == 3
    assert fork_server.pid != first


def test_frozen_fork_server_hides_no_end(fork_server, log) -> None:
    process = fork_server.start(variables("sleep"))
    wait_until(lambda: "ready" in text(log), "it never ran")
    os.kill(fork_server.pid, signal.SIGSTOP)
    process.kill()
    assert process.wait(DEADLINE_SECONDS) == -signal.SIGKILL
    assert fork_server.start(variables("exit:3")).wait(DEADLINE_SECONDS) == 3


def test_module_that_cannot_be_imported_is_an_error_that_says_so(log) -> None:
    server = forking.ForkServer(variables(), log, "no_such_module")
    with pytest.raises(training_process.StartError, match="status 1 before it was ready"):
        server.start(variables())
    server.close()
    assert "no_such_module" in text(log)


def test_closed_fork_server_leaves_no_process(log) -> None:
    server = forking.ForkServer(variables(), log, MODULE)
    process = server.start(variables("sleep"))
    server.close()
    wait_until(lambda: not is_alive(process.pid), "the training process lives on")
    assert not is_alive(server.pid)


def test_bound_process_dies_with_its_parent(tmp_path) -> None:
    starting = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'imagetrain_trainer.worker.lifeline', str(os.getpid()),\n"
        f"                         {MODULE!r}])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(3600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", starting], env=variables("sleep"), stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert parent.stdout.readline() == "ready\n"
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not is_alive(child), "the child lives on")


@pytest.fixture(scope="module", autouse=True)
def _subreaper() -> None:
    lifeline.become_subreaper()
