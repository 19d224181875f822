"""`imagetrain run` as a process, with stand-in workers: Ctrl-C, SIGTERM, kill -9, and what is left behind."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

import jobs
import stand_in_command

FOREVER = {"*.*": {"after": None}}


@pytest.fixture
def start(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset.json").write_text("{}")
    manifest = jobs.write_manifest(tmp_path)
    started = []

    def begin(script, *arguments):
        command = [
            sys.executable,
            stand_in_command.__file__,
            "run",
            manifest,
            "--work-dir",
            tmp_path / "runs",
            *arguments,
        ]
        process = subprocess.Popen(
            [str(word) for word in command],
            env={**os.environ, "STAND_IN_SCRIPT": json.dumps(script)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def worker_pids(tmp_path: pathlib.Path) -> list[int]:
    """Wait until both workers run, and return their process ids."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        files = list(tmp_path.glob("runs/*/scratch/rank-*/pid"))
        pids = [path.read_text() for path in files]
        if len(pids) == 2 and all(pids):
            return [int(pid) for pid in pids]
        time.sleep(0.05)
    raise TimeoutError("the workers did not start")


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if not any(is_alive(pid) for pid in pids):
            return
        time.sleep(0.05)
    raise TimeoutError(f"still running: {[pid for pid in pids if is_alive(pid)]}")


def is_alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.parametrize(
    ("number", "cause"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "SIGHUP")]
)
def test_a_signal_saves_and_stops_the_group(start, tmp_path, number, cause):
    process = start(FOREVER)
    pids = worker_pids(tmp_path)
    process.send_signal(number)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 82
    assert "saving…" in output
    assert f"stopped ({cause})" in errors
    wait_until_gone(pids)


def test_a_stopped_run_with_a_checkpoint_says_how_to_resume(start, tmp_path):
    process = start(FOREVER, "--set", "training.epochs=3")
    worker_pids(tmp_path)
    (run,) = (tmp_path / "runs").iterdir()
    checkpoint = tmp_path / "out" / "runs" / run.name / "checkpoints" / "step-000000000005"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").write_text('{"job": "tiny"}')
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    expected = f"--set training.epochs=3 --work-dir {tmp_path}/runs --resume {run.name}"
    assert errors.strip().endswith(expected)
    resumed = start({"*.*": {"exit": 100, "message": "enough."}}, "--set", "training.epochs=3", "--resume")
    output, errors = resumed.communicate(timeout=30)
    assert f"Resuming tiny as {run.name}" in output
    assert "BadConfig: enough." in errors


def test_a_second_interrupt_kills_workers_that_do_not_end(start, tmp_path):
    process = start({"*.*": {"after": None, "on_terminate": None}})
    pids = worker_pids(tmp_path)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1.5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 82
    wait_until_gone(pids)


def test_no_worker_outlives_a_killed_command(start, tmp_path):
    process = start(FOREVER)
    pids = worker_pids(tmp_path)
    process.kill()
    process.communicate(timeout=30)
    wait_until_gone(pids)


def test_two_commands_cannot_run_the_same_run(start, tmp_path):
    process = start(FOREVER)
    worker_pids(tmp_path)
    (run,) = (tmp_path / "runs").iterdir()
    checkpoint = tmp_path / "out" / "runs" / run.name / "checkpoints" / "step-000000000005"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").write_text('{"job": "tiny"}')
    second = start(FOREVER, "--resume", run.name)
    _, errors = second.communicate(timeout=30)
    assert second.returncode == 100
    assert "another imagetrain command runs it" in errors
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)


def test_json_lines_end_with_the_failure(start):
    process = start({"*.*": {"exit": 101, "message": "shard 3 is corrupt."}}, "--json")
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 101
    lines = [json.loads(line) for line in output.splitlines()]
    assert lines[0]["event"] == "started"
    assert (lines[-1]["event"], lines[-1]["exitCode"], lines[-1]["message"]) == ("failed", 101, "shard 3 is corrupt.")
    assert "shard 3 is corrupt." in errors
