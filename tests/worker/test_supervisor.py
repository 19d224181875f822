import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from imagetrain_api import exit_codes, job, names, plan, progress, worker_config
from imagetrain_trainer.worker import environment, main

# Says "ready", counts SIGTERM, and stays until it is killed.
STUBBORN = (
    "import os, signal, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: os.write(1, b'asked\\n'))\n"  # print fails within another print
    "print('ready', flush=True)\n"
    "while True: time.sleep(0.05)\n"
)


@pytest.fixture
def supervisor(tmp_path: pathlib.Path) -> main.Supervisor:
    decoded = job.decode_job(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": "digits"},
            "spec": {
                "data": {"uri": "s3://datasets/digits/"},
                "model": {"architecture": "small_cnn", "inputShape": [8, 8, 1]},
                "output": {"uri": "s3://models/digits/"},
            },
        }
    )
    config = worker_config.WorkerConfig(run_id="r1", job=decoded, endpoints=plan.kubernetes_endpoints(decoded))
    worker = environment.WorkerEnvironment(
        config=config, rank=0, work_dir=tmp_path, termination_path=None, cpu_threads=None, log_format="text"
    )
    made = main.Supervisor(worker)
    made._block = main.progress_block.ProgressBlock(tmp_path / "block", create=True)
    made._block.write(progress.Progress(phase="training", step=5))
    return made


@pytest.fixture
def stubborn(supervisor: main.Supervisor):
    process = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    supervisor._process = process
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_one_request_that_is_told_twice_at_once_stays_one(supervisor, stubborn) -> None:
    supervisor._forward(signal.SIGTERM, None)
    supervisor._forward(signal.SIGTERM, None)
    assert stubborn.stdout.readline() == "asked\n"
    assert stubborn.poll() is None


def test_second_request_ends_the_training_process_at_once(supervisor, stubborn, monkeypatch) -> None:
    supervisor._forward(signal.SIGTERM, None)
    later = time.monotonic() + 1.0
    monkeypatch.setattr(time, "monotonic", lambda: later)
    supervisor._forward(signal.SIGTERM, None)
    assert stubborn.wait(10) == -signal.SIGKILL
    outcome = supervisor._judge(-signal.SIGKILL, None)
    assert outcome.exit_code == exit_codes.ExitCode.PREEMPTED
    assert "is lost" in outcome.message


def test_request_before_the_first_step_ends_it_at_once_and_loses_nothing(supervisor, stubborn) -> None:
    supervisor._block.write(progress.Progress(phase="starting"))
    supervisor._forward(signal.SIGTERM, None)
    assert stubborn.wait(10) == -signal.SIGKILL
    assert "nothing is lost" in supervisor._judge(-signal.SIGKILL, None).message


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (-signal.SIGKILL, "ended by SIGKILL. The kernel sends it when memory runs out"),
        (-signal.SIGSEGV, "SIGSEGV"),
        (3, "status 3"),
    ],
)
def test_end_without_a_word_is_an_internal_error_that_says_how(supervisor, status: int, message: str) -> None:
    outcome = supervisor._judge(status, None)
    assert outcome.exit_code == exit_codes.ExitCode.INTERNAL
    assert message in outcome.message


def test_hang_is_told_as_such_whatever_the_process_wrote(supervisor) -> None:
    outcome = supervisor._judge(-signal.SIGKILL, main.watchdog.Verdict(message="silent for 99 s"))
    assert (outcome.exit_code, outcome.message) == (exit_codes.ExitCode.HUNG, "silent for 99 s")


def test_training_process_keeps_its_temporary_files_in_the_workers_folder(supervisor, tmp_path: pathlib.Path) -> None:
    process = supervisor._start()
    environ = pathlib.Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert f"TMPDIR={tmp_path}/tmp".encode() in environ
