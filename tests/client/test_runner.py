"""Whole runs with stand-in workers: restarts, patience and classification; signals are in test_run_signals.py."""

import json
import pathlib
import signal
import time

import pytest

import jobs
import stand_in_command
from imagetrain_api.exit_codes import ExitCode
from imagetrain_client.executor import events, folders, policy, processes, runner


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "resolve_command", lambda _: stand_in_command.COMMAND)
    monkeypatch.setattr(policy, "FIRST_BACKOFF_SECONDS", 0.05)

    def start(script, *, deadline=None, **spec):
        told = []
        request = runner.RunRequest(
            job=jobs.build_job(tmp_path, **spec),
            run_id="20261124-101500-x7k2",
            folder=folders.RunFolder(tmp_path / "runs" / "20261124-101500-x7k2"),
            is_resumed=False,
            deadline_seconds=deadline,
            environment={"STAND_IN_SCRIPT": json.dumps(script), "PATH": "/usr/bin:/bin"},
        )
        ended = runner.run(request, told.append)
        assert told[0].run_id == ended.run_id
        assert told[-1] is ended
        return ended, told

    return start


def of_type(told, kind):
    return [event for event in told if isinstance(event, kind)]


def test_a_group_that_is_done_ends_the_run(run):
    ended, told = run({})
    assert ended.exit_code is ExitCode.DONE
    assert ended.restarts == 0
    assert not of_type(told, events.Restarted)


TRAINED = {"progress": {"phase": "training", "step": 7, "checkpointStep": 5}}


def test_a_killed_worker_alone_starts_again(run):
    ended, told = run({"0.1": {"after": 3, **TRAINED}, "1.1": {"kill": signal.SIGKILL, "after": 1, **TRAINED}})
    assert ended.exit_code is ExitCode.DONE
    (replaced,) = of_type(told, events.Replaced)
    assert (replaced.rank, replaced.delay_seconds) == (1, 0.0)
    assert "SIGKILL" in replaced.message
    assert (ended.restarts, ended.replaced) == (0, 1)
    assert not of_type(told, events.Restarted)


def test_the_chief_alone_starts_again_too(run):
    ended, told = run({"0.1": {"kill": signal.SIGSEGV, "after": 1, **TRAINED}, "1.1": {"after": 3, **TRAINED}})
    assert ended.exit_code is ExitCode.DONE
    assert [(each.rank, each.message) for each in of_type(told, events.Replaced)] == [
        (0, "The worker was ended by SIGSEGV.")
    ]
    assert ended.restarts == 0


def test_the_whole_group_starts_again_when_one_worker_dies_time_and_again(run):
    dying = {f"1.{start}": {"kill": signal.SIGKILL, **TRAINED} for start in range(1, 5)}
    ended, told = run({"0.1": {"after": None, **TRAINED}, **dying})
    assert ended.exit_code is ExitCode.DONE
    assert [each.delay_seconds for each in of_type(told, events.Replaced)] == [0.0, 0.05, 0.1]
    (restarted,) = of_type(told, events.Restarted)
    assert (restarted.rank, restarted.reason) == (1, "PeerLost")
    assert "SIGKILL" in restarted.message
    assert (ended.restarts, ended.replaced) == (1, 3)


def test_replaced_workers_count_as_restarts(run):
    ended, told = run(
        {"0.*": {"after": None, **TRAINED}, "1.*": {"kill": signal.SIGKILL, **TRAINED}}, recovery={"maxRestarts": 2}
    )
    assert (ended.exit_code, ended.rank) == (ExitCode.PEER_LOST, 1)
    assert (ended.restarts, ended.replaced) == (0, 2)
    assert not of_type(told, events.Restarted)


def test_a_group_whose_others_left_meanwhile_starts_again_as_a_whole(run, monkeypatch):
    monkeypatch.setattr(policy, "FIRST_BACKOFF_SECONDS", 3.0)
    dying = {f"1.{start}": {"kill": signal.SIGKILL, **TRAINED} for start in (1, 2)}
    lonely = {"exit": 80, "after": 2.5, "message": "Rank 1 did not come back.", **TRAINED}
    ended, told = run({"0.1": lonely, **dying})
    assert ended.exit_code is ExitCode.DONE
    assert [each.delay_seconds for each in of_type(told, events.Replaced)] == [0.0, 3.0]
    (restarted,) = of_type(told, events.Restarted)
    assert restarted.resume_step == 5
    assert (ended.restarts, ended.replaced) == (1, 2)


def test_a_stop_ends_the_wait_for_a_replacement(run, monkeypatch):
    monkeypatch.setattr(policy, "FIRST_BACKOFF_SECONDS", 30.0)
    ended, _ = run({"0.*": {"after": None}, "1.*": {"kill": signal.SIGKILL}}, deadline=3.0)
    assert ended.exit_code is ExitCode.PREEMPTED
    assert ended.seconds < 15


def test_a_lost_lone_worker_is_a_restart_of_its_group(run):
    lost = {"kill": signal.SIGKILL, "after": 1.2, **TRAINED}
    ended, told = run({"0.1": lost}, workers=1)
    assert ended.exit_code is ExitCode.DONE
    (restarted,) = of_type(told, events.Restarted)
    assert (restarted.rank, restarted.reason, restarted.resume_step) == (0, "PeerLost", 5)
    assert "SIGKILL" in restarted.message


def test_a_permanent_error_of_one_rank_beats_the_lost_peer_of_the_other(run):
    ended, told = run({"0.1": {"exit": 80}, "1.1": {"exit": 101, "after": 0.5, "message": "shard 3 is corrupt."}})
    assert (ended.exit_code, ended.rank, ended.message) == (ExitCode.DATA_CORRUPT, 1, "shard 3 is corrupt.")
    assert ended.log.endswith("rank-1.log")
    assert not of_type(told, events.Restarted)


def test_restarts_end_at_the_limit(run):
    ended, told = run({"*.*": {"exit": 83, "message": "no answer."}}, recovery={"maxRestarts": 2})
    assert ended.exit_code is ExitCode.STORAGE_UNAVAILABLE
    assert ended.restarts == 2
    delays = [event.delay_seconds for event in of_type(told, events.Restarted)]
    assert delays == [0.05, 0.1]


def test_workers_that_do_not_end_by_themselves_are_ended(run, monkeypatch):
    monkeypatch.setattr(policy, "PEER_EXIT_AT_ONCE_SECONDS", 0.2)
    monkeypatch.setattr(policy, "TERMINATE_SECONDS", 0.2)
    began = time.monotonic()
    ended, _ = run({"0.1": {"after": None, "on_terminate": None}, "1.1": {"exit": 100, "message": "no."}})
    assert (ended.exit_code, ended.rank) == (ExitCode.BAD_CONFIG, 1)
    assert time.monotonic() - began < 10


def test_a_publishing_chief_outlives_its_peers(run, monkeypatch):
    monkeypatch.setattr(policy, "PEER_EXIT_SECONDS", 0.3)
    publishing = {"after": 3, "progress": {"phase": "publishing"}}
    ended, _ = run({"0.1": publishing, "1.1": {"exit": 110, "after": 1.5}})
    assert ended.exit_code is ExitCode.DONE


def test_the_deadline_saves_and_stops(run):
    ended, told = run({"*.*": {"after": None}}, deadline=1.0)
    assert ended.exit_code is ExitCode.PREEMPTED
    assert [event.cause for event in of_type(told, events.Stopping)] == ["deadline reached"]


def test_the_deadline_ends_a_wait_before_a_restart(run, monkeypatch):
    monkeypatch.setattr(policy, "FIRST_BACKOFF_SECONDS", 30.0)
    ended, _ = run({"*.*": {"exit": 83}}, deadline=2.0)
    assert ended.exit_code is ExitCode.PREEMPTED
    assert ended.seconds < 10


def test_workers_get_their_share_of_the_machine_and_their_logs(run, tmp_path):
    ended, _ = run({})
    folder = pathlib.Path(ended.log).parent.parent
    assert sorted(path.name for path in (folder / "logs").iterdir()) == ["rank-0.log", "rank-1.log"]
    config = json.loads((folder / "worker.json").read_text())
    ports = [port for each in config["endpoints"] for port in (each["collectivePort"], each["statusPort"])]
    assert len(set(ports)) == 4
    assert config["runId"] == ended.run_id


def test_progress_is_told(run):
    _, told = run({"*.*": {"after": 8, "progress": {"phase": "training", "step": 9, "loss": 0.5}}})
    seen = of_type(told, events.Progressed)
    # One worker may answer before the other, which is slow to start on a busy machine.
    assert (2, 2, 9) in [(event.workers_ready, event.workers, event.progress.step) for event in seen]
