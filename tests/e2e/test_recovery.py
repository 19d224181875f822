"""Stops, restarts and resumption with two real workers."""

import pathlib
import signal
import time

import command_events

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
