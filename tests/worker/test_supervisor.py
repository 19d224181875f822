import os
import pathlib
import signal
import time

import supervised
from imagetrain_api import exit_codes, names, progress
from imagetrain_trainer.rendezvous import messages
from imagetrain_trainer.worker import forking, supervisor, training_process

ExitCode = exit_codes.ExitCode


def process_id(harness: supervised.Harness) -> int:
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
    harness.link.now = messages.Order(action="run", generation=1, members=(supervised.MEMBERS[1],))
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
    harness.link.now = messages.Order(action="run", generation=2, members=supervised.MEMBERS[:1])
    harness.tick_until(lambda: harness.state == "running")
    assert harness.made.read_progress().workers == 1
    assert harness.made._run_times is not full
    variables = harness.made._generation._build_variables(
        messages.Order(generation=3, members=supervised.MEMBERS[::-1])
    )
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
    link = supervised.Link()
    made = supervisor.Supervisor(supervised.build_worker(tmp_path), link, starter, os.environ, link)
    harness = supervised.Harness(made, link, starter, {})
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
