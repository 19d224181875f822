"""Whole groups of supervisors in processes of their own; their training processes train nothing."""

import contextlib
import http.client
import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

import waiting
from imagetrain_api import exit_codes, job, names, progress, schema, worker_config
from imagetrain_client.executor import placement
from imagetrain_trainer.worker import outcomes, process_state

ExitCode = exit_codes.ExitCode
SUPPORT = pathlib.Path(__file__).parents[1] / "support"


class Group:
    """Supervisors of one group."""

    def __init__(self, folder: pathlib.Path, workers: int, **recovery: int) -> None:
        self.folder = folder
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        decoded = job.decode_job(
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "metadata": {"name": "digits"},
                "spec": {
                    "workers": workers,
                    "data": {"uri": "file:///data/"},
                    "model": {"architecture": "small_cnn", "inputShape": [8, 8, 1]},
                    "output": {"uri": f"file://{folder}/out/"},
                    "recovery": recovery,
                },
            }
        )
        self.endpoints = placement.loopback_endpoints(workers)
        config = worker_config.WorkerConfig(run_id="r1", job=decoded, endpoints=self.endpoints)
        (folder / "worker.json").write_text(worker_config.dump_worker_config(config))

    def start(self, action: str, *ranks: int, generations: dict[str, str] | None = None, **more: str) -> None:
        """Start supervisors, whose training processes do `action`, or what `generations` says of one."""
        for rank in ranks or range(len(self.endpoints)):
            variables = {
                **os.environ,
                "PYTHONPATH": str(SUPPORT),
                "STAND_IN": action,
                "STAND_IN_GENERATIONS": json.dumps(generations or {}),
                names.ENV_CONFIG: str(self.folder / "worker.json"),
                names.ENV_RANK: str(rank),
                names.ENV_WORK_DIR: str(self.folder / f"work-{rank}"),
                names.ENV_TERMINATION_MESSAGE: str(self.folder / f"outcome-{rank}.json"),
                **more,
            }
            with (self.folder / f"log-{rank}").open("ab") as log:
                command = [sys.executable, str(SUPPORT / "stand_in_supervisor.py")]
                self.processes[rank] = subprocess.Popen(command, env=variables, stdout=log, stderr=log)

    def shown(self, rank: int) -> progress.Progress:
        """Return what a rank shows, or a default while it shows nothing."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", self.endpoints[rank].status_port, timeout=5)
            with contextlib.closing(connection):
                connection.request("GET", names.PATH_PROGRESS)
                return schema.decode(progress.Progress, json.loads(connection.getresponse().read()))
        return progress.Progress()

    def training_process(self, rank: int) -> int:
        """Return the process id of a rank's training process: the fork server's child."""
        (server,) = children(self.processes[rank].pid)
        (child,) = children(server)
        return child

    def wait_for_training(self, generation: int, *ranks: int) -> None:
        """Wait until some ranks train in a generation."""
        for rank in ranks or range(len(self.endpoints)):
            self.until(lambda rank=rank: self.is_training(rank, generation))

    def is_training(self, rank: int, generation: int) -> bool:
        shown = self.shown(rank)
        return (shown.generation, shown.phase) == (generation, "training")

    def until(self, reached: Callable[[], bool]) -> None:
        """Wait, and show the logs where that is in vain."""
        try:
            waiting.until(reached, seconds=60)
        except TimeoutError:
            logs = "\n".join(path.read_text() for path in sorted(self.folder.glob("log-*")))
            raise AssertionError(f"it never came: {logs[-6000:]}") from None

    def wait(self) -> list[int]:
        """Return the exit statuses, by rank."""
        self.until(lambda: all(process.poll() is not None for process in self.processes.values()))
        return [self.processes[rank].wait() for rank in sorted(self.processes)]

    def outcome(self, rank: int) -> progress.WorkerOutcome:
        found = outcomes.read_outcome(self.folder / f"outcome-{rank}.json")
        assert found is not None
        return found

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


def children(pid: int) -> list[int]:
    """Return the living children of a process."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(stat.parent.name))
    return found


@pytest.fixture
def build(tmp_path: pathlib.Path) -> Iterator[Callable[..., Group]]:
    made: list[Group] = []

    def build_group(workers: int, **recovery: int) -> Group:
        made.append(Group(tmp_path, workers, **recovery))
        return made[-1]

    yield build_group
    for group in made:
        group.close()


@pytest.mark.parametrize("rank", [0, 1])
def test_killed_training_process_starts_a_generation_in_place_and_is_told_as_guilty(build, rank: int) -> None:
    group = build(2)
    group.start("train")
    group.wait_for_training(1)
    supervisors = [process.pid for process in group.processes.values()]
    other = group.training_process(1 - rank)
    os.kill(group.training_process(rank), signal.SIGKILL)
    group.wait_for_training(2)
    assert [process.pid for process in group.processes.values() if process.poll() is None] == supervisors
    assert process_state.read_process(other) is None
    (recovery,) = group.shown(0).recoveries
    assert (recovery.generation, recovery.rank, recovery.reason) == (1, rank, "Killed")


def test_lone_worker_recovers_in_the_same_way(build) -> None:
    group = build(1)
    group.start("train")
    group.wait_for_training(1)
    os.kill(group.training_process(0), signal.SIGKILL)
    group.wait_for_training(2)
    assert group.shown(0).recoveries[0].rank == 0


def test_frozen_training_process_is_found_and_the_group_goes_on(build) -> None:
    group = build(2)
    group.start("train")
    group.wait_for_training(1)
    os.kill(group.training_process(1), signal.SIGSTOP)
    group.wait_for_training(2)
    (recovery,) = group.shown(0).recoveries
    assert (recovery.rank, recovery.reason) == (1, "Frozen")
    group.until(lambda: group.shown(0).recoveries[0].dump_uri is not None)


def test_rank_whose_heart_beats_but_that_takes_no_step_is_found_within_the_step_timeout(build) -> None:
    group = build(2, stepTimeoutSeconds=5)
    group.start("train", generations={"1.1": "block"})
    group.wait_for_training(1)
    group.wait_for_training(2)
    (recovery,) = group.shown(0).recoveries
    assert (recovery.rank, recovery.reason) == (1, "Hung")


def test_worker_that_never_appears_ends_the_group_after_the_start_timeout(build) -> None:
    group = build(2, startTimeoutSeconds=10)
    group.start("train", 0)
    assert group.wait() == [ExitCode.PEER_LOST]
    assert "Rank 1 did not appear within 10 s" in group.outcome(0).message


def test_killed_fork_server_is_replaced(build) -> None:
    group = build(1)
    group.start("train")
    group.wait_for_training(1)
    (fork_server,) = children(group.processes[0].pid)
    os.kill(fork_server, signal.SIGKILL)
    group.wait_for_training(2)
    assert fork_server not in children(group.processes[0].pid)


@pytest.mark.parametrize("rank", [0, 1])
def test_worker_that_comes_back_joins_the_group_again(build, rank: int) -> None:
    group = build(2)
    group.start("train")
    group.wait_for_training(1)
    group.processes[rank].kill()
    group.processes[rank].wait()
    group.start("train", rank)
    group.wait_for_training(2)


def test_worker_that_stays_away_ends_the_group(build) -> None:
    group = build(2, memberTimeoutSeconds=5)
    group.start("train")
    group.wait_for_training(1)
    group.processes[1].kill()
    assert group.wait() == [ExitCode.PEER_LOST, -signal.SIGKILL]
    assert "Rank 1 did not come back within 5 s" in group.outcome(0).message


def test_worker_without_a_coordinator_ends_after_the_members_timeout(build) -> None:
    group = build(2, memberTimeoutSeconds=5)
    group.start("train")
    group.wait_for_training(1)
    group.processes[0].kill()
    assert group.wait() == [-signal.SIGKILL, ExitCode.PEER_LOST]
    assert "Rank 0 could not be reached" in group.outcome(1).message


def test_asked_group_saves_and_ends_as_preempted(build) -> None:
    group = build(2)
    group.start("train")
    group.wait_for_training(1)
    for process in group.processes.values():
        process.send_signal(signal.SIGTERM)
    assert group.wait() == [ExitCode.PREEMPTED] * 2
    assert group.outcome(0).message == "Stopped; the checkpoint is saved."


def test_group_that_is_asked_before_it_has_begun_ends_too(build) -> None:
    group = build(2)
    group.start("start")
    group.until(lambda: group.shown(1).generation == 1)
    for process in group.processes.values():
        process.send_signal(signal.SIGTERM)
    assert group.wait() == [ExitCode.PREEMPTED] * 2


def test_done_group_ends_with_the_chiefs_summary(build) -> None:
    group = build(2)
    group.start("train", generations={"1": "done"})
    assert group.wait() == [ExitCode.DONE] * 2
    assert group.outcome(0).summary == {"steps": 9}


def test_permanent_error_of_one_rank_ends_the_group_at_once(build) -> None:
    group = build(2)
    group.start("train", generations={"1.1": "corrupt"})
    assert group.wait() == [ExitCode.PEER_LOST, ExitCode.DATA_CORRUPT]


def test_too_many_restarts_end_the_group(build) -> None:
    group = build(1, maxRestarts=1)
    group.start("full")
    assert group.wait() == [ExitCode.DISK_FULL]
    assert "recovery.maxRestarts allows 1" in group.outcome(0).message


def test_group_without_fork_servers_recovers_too(build) -> None:
    group = build(1)
    group.start("train", **{names.ENV_FORK_SERVER: "0"})
    group.wait_for_training(1)
    (training,) = children(group.processes[0].pid)
    os.kill(training, signal.SIGKILL)
    group.wait_for_training(2)


def test_killed_supervisor_leaves_no_process(build) -> None:
    group = build(1)
    group.start("train")
    group.wait_for_training(1)
    (fork_server,) = children(group.processes[0].pid)
    training = group.training_process(0)
    group.processes[0].kill()
    for pid in (fork_server, training):
        group.until(lambda pid=pid: (state := process_state.read_process(pid)) is None or state.state == "Z")


def test_supervisor_is_small(build) -> None:
    group = build(1)
    group.start("train")
    group.wait_for_training(1)
    status = pathlib.Path(f"/proc/{group.processes[0].pid}/status").read_text()
    (resident,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")]
    assert resident < 60 * 1024  # KiB


def test_each_line_of_the_log_tells_rank_generation_and_step(build) -> None:
    group = build(1)
    group.start("raise", generations={"2": "train"})
    group.wait_for_training(2)
    lines = (group.folder / "log-0").read_text().splitlines()
    assert any("rank=0 generation=1 step=0 RuntimeError: as asked" in line for line in lines), lines
