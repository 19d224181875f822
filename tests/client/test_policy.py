import math
import signal

import pytest

from imagetrain_api.exit_codes import ExitCode
from imagetrain_client.executor import policy


def end(rank, status, at=0.0, *, was_ended=False, message=""):
    return policy.WorkerEnd(rank=rank, status=status, at_seconds=at, was_ended=was_ended, message=message)


@pytest.mark.parametrize(
    ("ends", "code", "rank"),
    [
        ([end(0, 0), end(1, 0)], ExitCode.DONE, 0),
        # The chief has published: what its peers do afterwards changes nothing.
        ([end(0, 0), end(1, 110)], ExitCode.DONE, 0),
        ([end(0, 80), end(1, 101, at=5)], ExitCode.DATA_CORRUPT, 1),
        ([end(0, 80), end(1, 83, at=5)], ExitCode.STORAGE_UNAVAILABLE, 1),
        ([end(0, 80), end(1, -9)], ExitCode.PEER_LOST, 1),
        ([end(0, 80), end(1, -11)], ExitCode.INTERNAL, 1),
        ([end(0, 80, at=1), end(1, 80, at=0)], ExitCode.PEER_LOST, 1),
        ([end(0, 81, at=2), end(1, 110, at=1)], ExitCode.INTERNAL, 1),
        # Another group goes on with the run: its peers only miss the fenced one.
        ([end(0, 86, at=5), end(1, 80)], ExitCode.FENCED, 0),
        ([end(0, 80), end(1, 106, at=5)], ExitCode.CRASH_LOOP, 1),
        ([end(0, 82), end(1, 82)], ExitCode.PREEMPTED, 0),
        ([end(0, 82), end(1, 83)], ExitCode.STORAGE_UNAVAILABLE, 1),
        # A shell's "command not found" and Python's traceback are no codes of the table.
        ([end(0, 1), end(1, 127, at=1)], ExitCode.INTERNAL, 0),
        # What a worker does after this command ended it explains nothing.
        ([end(0, 102, was_ended=True), end(1, 83)], ExitCode.STORAGE_UNAVAILABLE, 1),
        # No rank failed, yet the chief did not get to publish.
        ([end(0, 0, was_ended=True), end(1, 0)], ExitCode.PEER_LOST, 0),
    ],
)
def test_the_most_telling_end_explains_the_group(ends, code, rank):
    verdict = policy.judge(ends)
    assert (verdict.exit_code, verdict.rank) == (code, rank)


@pytest.mark.parametrize(
    ("ended", "message"),
    [
        (end(1, 101, message="shard 3 is corrupt."), "shard 3 is corrupt."),
        (end(1, -9), "The worker was ended by SIGKILL (by the kernel, if memory ran out)."),
        (end(1, -11), "The worker was ended by SIGSEGV."),
        (end(1, 2), "The worker failed unexpectedly. Its exit status was 2."),
        (end(1, 81), "No step finished within the step timeout."),
    ],
)
def test_a_verdict_says_what_happened(ended, message):
    assert policy.judge([end(0, 80, at=9), ended]).message == message


@pytest.mark.parametrize(
    ("ends", "chief_phase", "seconds"),
    [
        ([end(1, 110)], "training", policy.PEER_EXIT_SECONDS),
        ([end(1, 101)], "training", policy.PEER_EXIT_AT_ONCE_SECONDS),
        # A worker that waits for its peers to join never notices that one is lost.
        ([end(1, 110)], "starting", policy.PEER_EXIT_AT_ONCE_SECONDS),
        # The chief publishes alone.
        ([end(1, 0)], "training", math.inf),
        ([end(1, 110)], "publishing", math.inf),
        # The chief uploads the checkpoint after its peers have left.
        ([end(1, 82)], "checkpointing", policy.SAVE_SECONDS),
        ([end(0, 82)], "training", policy.PEER_EXIT_SECONDS),
        # The chief is done: its peers have nothing left to do.
        ([end(0, 0)], "done", policy.PEER_EXIT_SECONDS),
    ],
)
def test_patience_with_the_remaining_workers(ends, chief_phase, seconds):
    assert policy.patience_seconds(ends, chief_phase) == seconds


@pytest.mark.parametrize(
    ("code", "is_stopping", "restarts", "conclusion"),
    [
        (ExitCode.DONE, False, 0, ExitCode.DONE),
        (ExitCode.DONE, True, 0, ExitCode.DONE),
        (ExitCode.BAD_CONFIG, False, 0, ExitCode.BAD_CONFIG),
        (ExitCode.BAD_CONFIG, True, 0, ExitCode.BAD_CONFIG),
        (ExitCode.PEER_LOST, False, 2, None),
        (ExitCode.PEER_LOST, False, 3, ExitCode.PEER_LOST),
        (ExitCode.FENCED, False, 0, ExitCode.FENCED),  # it would fence the group that took over
        (ExitCode.FENCED, True, 0, ExitCode.FENCED),
        (ExitCode.CRASH_LOOP, False, 0, ExitCode.CRASH_LOOP),
        (ExitCode.PREEMPTED, False, 0, None),
        (ExitCode.PREEMPTED, True, 0, ExitCode.PREEMPTED),
        (ExitCode.PEER_LOST, True, 0, ExitCode.PREEMPTED),
        # The state could not be saved: that is worth more than "stopped".
        (ExitCode.DISK_FULL, True, 0, ExitCode.DISK_FULL),
    ],
)
def test_when_a_run_is_over(code, is_stopping, restarts, conclusion):
    verdict = policy.Verdict(exit_code=code, rank=0, message="")
    assert policy.conclude(verdict, is_stopping=is_stopping, restarts=restarts, max_restarts=3) == conclusion


@pytest.mark.parametrize(
    ("code", "failures", "conclusion"),
    [
        (ExitCode.INTERNAL, 2, None),
        (ExitCode.INTERNAL, 3, ExitCode.INTERNAL),
        (ExitCode.STORAGE_UNAVAILABLE, 9, None),  # an outage may last
    ],
)
def test_crash_that_comes_back_without_a_step_between_ends_the_run(code, failures, conclusion):
    verdict = policy.Verdict(exit_code=code, rank=0, message="")
    concluded = policy.conclude(
        verdict, is_stopping=False, restarts=failures - 1, max_restarts=10, failures_in_a_row=failures
    )
    assert concluded == conclusion


@pytest.mark.parametrize(
    ("requests", "has_started", "seconds"),
    [
        (1, True, policy.SAVE_SECONDS),
        (1, False, policy.STOP_AT_START_SECONDS),
        (2, True, policy.HURRY_SECONDS),
        (3, False, policy.HURRY_SECONDS),
    ],
)
def test_patience_with_workers_that_were_asked_to_stop(requests, has_started, seconds):
    assert policy.stop_seconds(requests, has_started=has_started) == seconds


def test_backoff_doubles_up_to_its_limit():
    assert [policy.backoff_seconds(failures) for failures in (1, 2, 3, 6, 500)] == [1, 2, 4, 30, 30]


def test_every_signal_has_an_exit_code():
    assert {policy.exit_code_of(-number) for number in signal.Signals} == {ExitCode.PEER_LOST, ExitCode.INTERNAL}
