import dataclasses
import errno
import os
import pathlib
import shutil
import signal
import time

import pytest

import waiting
from imagetrain_api import exit_codes, job, names, plan, progress, worker_config
from imagetrain_trainer.rendezvous import messages
from imagetrain_trainer.worker import environment, forking, generation, lifeline, supervisor, training_process

ExitCode = exit_codes.ExitCode
SUPPORT = pathlib.Path(__file__).parents[1] / "support"
MEMBERS = tuple(messages.Member(worker=rank, host=f"host-{rank}", collective_port=2222) for rank in range(2))


class Link:
    """A coordinator that says what a test wants."""

    def __init__(self) -> None:
        self.now = messages.Order()
        self.told = messages.MemberReport(rank=0, incarnation="none", host="", collective_port=1)

    def report(self, report: messages.MemberReport) -> None:
        self.told = messages.decode(messages.MemberReport, messages.encode(report))

    def order(self) -> messages.Order:
        return self.now

    def recoveries(self) -> tuple[progress.Recovery, ...]:
        return self.now.recoveries


@dataclasses.dataclass
class Harness:
    made: supervisor.Supervisor
    link: Link
    starter: forking.ForkServer
    variables: dict[str, str]
    outcome: progress.WorkerOutcome | None = None

    def order(self, action: str, generation: int = 1, **more: object) -> None:
        self.link.now = messages.Order(action=action, generation=generation, members=MEMBERS, **more)

    def tick_until(self, reached, seconds: float = 60.0) -> None:
        def tick() -> bool:
            self.outcome = self.outcome or self.made.tick()
            return reached()

        waiting.until(tick, seconds=seconds)

    def run(self, action: str, generation: int = 1) -> None:
        self.variables["STAND_IN"] = action
        self.order("run", generation)
        self.tick_until(lambda: self.link.told.generation == generation)

    def signal(self) -> None:
        self.made._signalled_at = -1000.0  # long after the one before
        self.made.take_signal(signal.SIGTERM, None)

    @property
    def state(self) -> str:
        return self.link.told.state


def build_worker(work_dir: pathlib.Path) -> environment.WorkerEnvironment:
    decoded = job.decode_job(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": "digits"},
            "spec": {
                "workers": 2,
                "data": {"uri": "file:///data/"},
                "model": {"architecture": "small_cnn", "inputShape": [8, 8, 1]},
                "output": {"uri": f"file://{work_dir}/out/"},
            },
        }
    )
    config = worker_config.WorkerConfig(run_id="r1", job=decoded, endpoints=plan.kubernetes_endpoints(decoded))
    (work_dir / "worker.json").write_text(worker_config.dump_worker_config(config))
    return environment.WorkerEnvironment(
        config=config,
        rank=0,
        work_dir=work_dir,
        termination_path=None,
        cpu_threads=None,
        log_format="text",
        incarnation="abc",
    )


@pytest.fixture
def harness(tmp_path: pathlib.Path):
    lifeline.become_subreaper()
    variables = {
        **os.environ,
        "PYTHONPATH": str(SUPPORT),
        names.ENV_CONFIG: str(tmp_path / "worker.json"),
        names.ENV_WORK_DIR: str(tmp_path),
        names.ENV_RANK: "0",
    }
    worker = build_worker(tmp_path)
    with (tmp_path / "log").open("wb") as log:
        starter = forking.ForkServer(variables, log, "stand_in_training")
        link = Link()
        yield Harness(supervisor.Supervisor(worker, link, starter, variables, link), link, starter, variables)
        starter.close()


def process_id(harness: Harness) -> int:
    return harness.made._generation._process.pid


def test_process_is_started_once_a_generation_and_its_end_is_told(harness) -> None:
    harness.run("exit:3")
    harness.tick_until(lambda: harness.state == "ended")
    assert harness.link.told.exit_code == ExitCode.INTERNAL
    assert "ended with status 3 and no word" in harness.link.told.message
    for _ in range(5):
        harness.made.tick()
    assert (harness.state, harness.link.told.generation) == ("ended", 1)
    harness.run("exit:3", 2)
    assert harness.link.told.generation == 2


@pytest.mark.parametrize(
    ("action", "free_bytes", "reason"),
    [
        ("exit:1", 0, ExitCode.DISK_FULL),  # not even its outcome could be written
        (f"kill:{signal.SIGBUS.value}", 0, ExitCode.DISK_FULL),  # a page of a mapped file found no room
        ("exit:1", 1 << 30, ExitCode.INTERNAL),
        (f"kill:{signal.SIGBUS.value}", 1 << 30, -signal.SIGBUS),
        (f"kill:{signal.SIGTERM.value}", 0, -signal.SIGTERM),
    ],
)
def test_process_that_ended_for_want_of_space_says_so(harness, monkeypatch, action, free_bytes, reason) -> None:
    usage = shutil.disk_usage(harness.made._worker.work_dir)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage._replace(free=free_bytes))
    harness.run(action)
    harness.tick_until(lambda: harness.state == "ended")
    assert harness.link.told.exit_code == reason
    assert ("no space is left in" in harness.link.told.message) == (reason == ExitCode.DISK_FULL)


def test_what_the_process_says_of_its_end_is_told(harness) -> None:
    harness.run("full")
    harness.tick_until(lambda: harness.state == "ended")
    assert harness.link.told.exit_code == ExitCode.DISK_FULL
    assert harness.link.told.message == "The disk is full."


def test_outcome_of_an_earlier_generation_is_forgotten(harness) -> None:
    harness.run("full")
    harness.tick_until(lambda: harness.state == "ended")
    harness.run(f"exit:{int(ExitCode.DISK_FULL)}", 2)
    harness.tick_until(lambda: harness.state == "ended")
    assert harness.link.told.exit_code == ExitCode.INTERNAL


def test_killed_process_is_told_by_its_signal_and_as_out_of_memory_if_the_kernel_counts_so(harness) -> None:
    harness.run("train")
    harness.tick_until(lambda: harness.state == "running")
    os.kill(process_id(harness), signal.SIGKILL)
    harness.tick_until(lambda: harness.state == "ended")
    assert harness.link.told.exit_code == -signal.SIGKILL
    harness.run("train", 2)
    harness.tick_until(lambda: harness.state == "running")
    harness.made._generation._memory_kills.has_risen = lambda: True
    os.kill(process_id(harness), signal.SIGKILL)
    harness.tick_until(lambda: harness.state == "ended")
    assert harness.link.told.exit_code == ExitCode.OUT_OF_MEMORY


def test_stop_ends_the_process_and_the_next_generation_follows(harness) -> None:
    harness.run("train")
    harness.tick_until(lambda: harness.state == "running")
    first = process_id(harness)
    harness.order("stop", message="Rank 1 was killed (SIGKILL).")
    harness.tick_until(lambda: harness.state == "idle")
    assert not pathlib.Path(f"/proc/{first}").exists()
    shown = harness.made.read_progress()
    assert (shown.phase, shown.detail) == ("starting", "Rank 1 was killed (SIGKILL).")
    assert shown.step >= 5
    harness.run("train", 2)
    harness.tick_until(lambda: harness.state == "running")
    assert harness.made.read_progress().generation == 2
    harness.made._generation.kill()


def test_new_generation_ends_a_process_that_is_still_there(harness) -> None:
    harness.run("train")
    harness.run("start", 2)
    assert harness.link.told.generation == 2
    harness.made._generation.kill()


def test_worker_that_is_no_member_starts_nothing(harness) -> None:
    harness.link.now = messages.Order(action="run", generation=1, members=(MEMBERS[1],))
    harness.tick_until(harness.starter.is_ready)
    harness.made.tick()
    assert (harness.state, harness.link.told.generation) == ("idle", 0)


def test_process_is_asked_to_save_and_stop_once_it_trains(harness) -> None:
    harness.run("start")
    harness.order("checkpoint_and_stop")
    harness.tick_until(lambda: harness.state == "starting")
    assert not harness.made._generation._is_asked  # TensorFlow would take the signal for itself
    harness.run("train", 2)
    harness.order("checkpoint_and_stop", 2)
    harness.tick_until(lambda: harness.state == "ended")
    assert harness.link.told.exit_code == ExitCode.PREEMPTED
    harness.order("wait", 2)
    harness.tick_until(lambda: harness.state == "idle")


def test_smaller_generation_has_its_own_ranks_and_run_times(harness) -> None:
    harness.run("train")
    harness.tick_until(lambda: harness.state == "running")
    full = harness.made._run_times
    assert harness.made.read_progress().workers == 2
    harness.order("stop")
    harness.tick_until(lambda: harness.state == "idle")
    harness.link.now = messages.Order(action="run", generation=2, members=MEMBERS[:1])
    harness.tick_until(lambda: harness.state == "running")
    assert harness.made.read_progress().workers == 1
    assert harness.made._run_times is not full
    variables = harness.made._generation._build_variables(messages.Order(generation=3, members=MEMBERS[::-1]))
    assert variables[names.ENV_RANK] == "1"  # of the worker of rank 0, which is the second member there
    harness.made._generation.kill()


def test_leave_gives_the_outcome_of_the_process_where_it_is_the_same(harness) -> None:
    harness.run("done")
    harness.tick_until(lambda: harness.state == "ended")
    harness.order("leave", exit_code=0, message="The job is done.")
    harness.tick_until(lambda: harness.outcome is not None)
    assert harness.outcome.summary == {"steps": 9}


def test_leave_gives_the_coordinators_word_where_the_process_ended_otherwise(harness) -> None:
    harness.run("train")
    harness.order("leave", exit_code=80, message="Rank 1 did not come back within 60 s.")
    harness.tick_until(lambda: harness.outcome is not None)
    assert (harness.outcome.exit_code, harness.outcome.message) == (80, "Rank 1 did not come back within 60 s.")


def test_request_to_stop_is_passed_on_and_no_other_generation_starts(harness) -> None:
    harness.run("train")
    harness.tick_until(lambda: harness.state == "running")
    harness.signal()
    harness.tick_until(lambda: harness.state == "ended")
    assert harness.link.told.exit_code == ExitCode.PREEMPTED
    assert harness.link.told.is_stopping
    harness.order("run", 2)
    harness.tick_until(lambda: harness.outcome is not None)
    assert harness.link.told.generation == 1
    assert harness.outcome.message == "Stopped; the checkpoint is saved."


def test_one_request_that_is_told_twice_at_once_stays_one(harness) -> None:
    harness.run("train")
    harness.tick_until(lambda: harness.state == "running")
    harness.made.take_signal(signal.SIGTERM, None)
    harness.made.take_signal(signal.SIGTERM, None)
    harness.tick_until(lambda: harness.state == "ended")
    assert harness.link.told.exit_code == ExitCode.PREEMPTED


def test_second_request_ends_the_training_process_at_once(harness) -> None:
    harness.run("train")
    harness.tick_until(lambda: harness.state == "running")
    os.kill(process_id(harness), signal.SIGSTOP)  # so that it does not heed the first
    harness.signal()
    harness.made.tick()
    assert harness.outcome is None
    harness.signal()
    harness.tick_until(lambda: harness.outcome is not None)
    assert harness.outcome.exit_code == ExitCode.PREEMPTED
    assert "is lost" in harness.outcome.message


def test_request_before_the_first_step_ends_it_at_once_and_loses_nothing(harness) -> None:
    harness.run("start")
    harness.signal()
    harness.tick_until(lambda: harness.outcome is not None)
    assert harness.outcome.exit_code == ExitCode.PREEMPTED
    assert "nothing is lost" in harness.outcome.message


def test_request_while_the_process_is_started_ends_it_too(harness, monkeypatch) -> None:
    start = harness.starter.start

    def start_late(variables: dict[str, str]) -> training_process.TrainingProcess:
        started = start(variables)
        harness.signal()  # the supervisor has no process to pass it on to yet
        return started

    monkeypatch.setattr(harness.starter, "start", start_late)
    harness.run("train")
    harness.tick_until(lambda: harness.outcome is not None)
    assert harness.outcome.exit_code == ExitCode.PREEMPTED
    assert "nothing is lost" in harness.outcome.message


def test_request_before_any_generation_lets_the_worker_go(harness) -> None:
    harness.signal()
    began = time.monotonic()
    harness.tick_until(lambda: harness.outcome is not None)
    assert harness.outcome.exit_code == ExitCode.PREEMPTED
    assert time.monotonic() - began < 30


def test_stopped_process_is_suspected_and_its_stacks_are_taken_and_kept(harness, tmp_path) -> None:
    harness.run("train")
    harness.tick_until(lambda: harness.state == "running")
    os.kill(process_id(harness), signal.SIGSTOP)
    harness.tick_until(lambda: harness.link.told.suspect == "frozen")
    harness.order("dump")
    harness.tick_until(lambda: harness.link.told.has_dump)
    name = f"generation-0001-rank-0-{harness.link.told.incarnation}.txt"
    kept = tmp_path / "out" / "runs" / "r1" / "incidents" / name
    assert harness.link.told.dump_uri is None or kept.exists()  # it is told once it lies there
    harness.order("stop")
    harness.tick_until(lambda: harness.state == "idle" and harness.link.told.dump_uri is not None)
    assert harness.link.told.dump_uri == kept.as_uri()
    assert "state T" in kept.read_text()
    assert harness.link.told.dump_generation == 1


def test_second_suspicion_of_a_process_that_had_gone_on_takes_other_stacks(harness) -> None:
    harness.run("train")
    harness.tick_until(lambda: harness.state == "running")
    pid = process_id(harness)
    for _ in range(2):
        os.kill(pid, signal.SIGSTOP)
        harness.tick_until(lambda: harness.link.told.suspect == "frozen")
        assert not harness.link.told.has_dump
        harness.order("dump")
        harness.tick_until(lambda: harness.link.told.has_dump)
        os.kill(pid, signal.SIGCONT)
        harness.order("run")
        harness.tick_until(lambda: not harness.link.told.has_dump and not harness.link.told.suspect)
        assert harness.link.told.place == ""
    harness.tick_until(lambda: not harness.made._uploads)


def test_recoveries_are_shown_where_the_coordinator_is(harness) -> None:
    recovery = progress.Recovery(generation=1, reason="Killed")
    harness.order("wait", recoveries=(recovery,))
    harness.made.tick()
    assert harness.made.read_progress().recoveries == (recovery,)


def test_training_process_that_cannot_be_started_ends_the_worker(tmp_path: pathlib.Path) -> None:
    starter = forking.ForkServer(os.environ, None, "no_such_module")
    link = Link()
    made = supervisor.Supervisor(build_worker(tmp_path), link, starter, os.environ, link)
    harness = Harness(made, link, starter, {})
    harness.order("run")
    harness.tick_until(lambda: harness.outcome is not None)
    starter.close()
    assert harness.outcome.exit_code == ExitCode.INTERNAL
    assert "The fork server ended with status 1" in harness.outcome.message


def test_fork_that_fails_is_told_and_the_next_generation_tries_again(harness, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise training_process.StartError("The fork server did not start a training process.")

    with monkeypatch.context() as broken:
        broken.setattr(harness.starter, "start", fail)
        harness.run("train")
        assert (harness.state, harness.link.told.exit_code) == ("ended", ExitCode.INTERNAL)
    harness.run("train", 2)
    harness.tick_until(lambda: harness.state == "running")
    harness.made._generation.kill()


def test_fork_server_that_died_is_replaced_before_the_next_generation(harness) -> None:
    harness.tick_until(harness.starter.is_ready)
    first = harness.starter.pid
    os.kill(first, signal.SIGKILL)
    harness.tick_until(lambda: harness.starter.pid != first)


def test_work_folder_that_is_full_is_told_as_such_and_the_next_generation_tries_again(harness, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(generation.progress_block, "ProgressBlock", fail)
        harness.run("train")
        assert (harness.state, harness.link.told.exit_code) == ("ended", ExitCode.DISK_FULL)
        assert "No space left on device" in harness.link.told.message
    harness.run("train", 2)
    harness.tick_until(lambda: harness.state == "running")
    harness.made._generation.kill()
