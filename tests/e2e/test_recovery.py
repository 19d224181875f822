"""Stops, restarts and resumption with two real workers."""

import os
import pathlib
import signal
import time

import command_events

SUPERVISOR = b"imagetrain-worker"
LONG = {"epochs": 400, "globalBatchSize": 16}


def test_an_interrupted_run_saves_and_resumes_where_it_stopped(imagetrain, write_job, local_data, tmp_path):
    manifest = write_job(f"file://{local_data}/", f"file://{tmp_path}/out/", training=LONG)
    process = imagetrain.start("run", manifest, "--json")
    command_events.wait_for_step(process, 20)
    process.send_signal(signal.SIGINT)
    stopped = imagetrain.wait(process)
    assert stopped.status == 82, stopped.errors + imagetrain.logs()
    assert "--resume" in stopped.errors
    (folder,) = imagetrain.runs.iterdir()
    steps = saved_steps(tmp_path, folder.name)
    assert steps[-1] >= 20

    # The rest of the run is cut short: what counts is where it goes on.
    resumed = imagetrain.start("run", manifest, "--json", "--resume")
    first = command_events.wait_for_step(resumed, 1)
    assert first["step"] >= steps[-1]
    resumed.send_signal(signal.SIGINT)
    assert imagetrain.wait(resumed).status == 82
    assert saved_steps(tmp_path, folder.name)[-1] >= steps[-1]
    assert [path.name for path in imagetrain.runs.iterdir()] == [folder.name]


def test_a_killed_supervisor_restarts_the_whole_group_which_then_publishes(imagetrain, write_job, local_data, tmp_path):
    manifest = write_job(
        f"file://{local_data}/",
        f"file://{tmp_path}/out/",
        training={"epochs": 40, "globalBatchSize": 48},
        checkpoint={"everySeconds": 1},
    )
    process = imagetrain.start("run", manifest, "--json")
    command_events.wait_for_step(process, 5)
    os.kill(worker_pid(imagetrain.runs, rank=1), signal.SIGKILL)
    run = imagetrain.wait(process)
    assert run.status == 0, run.errors + imagetrain.logs()
    (restarted,) = [event for event in run.events if event["event"] == "restarted"]
    assert (restarted["rank"], restarted["reason"]) == (1, "PeerLost")
    assert run.events[-1]["restarts"] == 1


def test_workers_of_a_killed_command_save_and_end(imagetrain, write_job, local_data, tmp_path):
    manifest = write_job(f"file://{local_data}/", f"file://{tmp_path}/out/", training=LONG)
    process = imagetrain.start("run", manifest, "--json")
    command_events.wait_for_step(process, 20)
    (folder,) = imagetrain.runs.iterdir()
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while processes_of(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not processes_of(folder)
    assert saved_steps(tmp_path, folder.name)[-1] >= 20


def saved_steps(tmp_path: pathlib.Path, run: str) -> list[int]:
    """Return the steps of a run's complete checkpoints."""
    found = (tmp_path / "out" / "runs" / run / "checkpoints").glob("step-*/g*/manifest.json")
    return sorted(int(path.parent.parent.name.removeprefix("step-")) for path in found)


def worker_pid(runs: pathlib.Path, rank: int) -> int:
    """Return the process id of a rank's supervisor."""
    (folder,) = runs.iterdir()
    wanted = f"IMAGETRAIN_RANK={rank}".encode()
    (pid,) = [
        pid
        for pid, (command, variables) in processes_of(folder).items()
        if SUPERVISOR in command and wanted in variables
    ]
    return pid


def processes_of(folder: pathlib.Path) -> dict[int, tuple[bytes, list[bytes]]]:
    """Return command line and environment of every process that works for a run, by process id."""
    wanted = f"IMAGETRAIN_CONFIG={folder}/worker.json".encode()
    found = {}
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            variables = (process / "environ").read_bytes().split(b"\0")
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if wanted in variables:
            found[int(process.name)] = (command, variables)
    return found
