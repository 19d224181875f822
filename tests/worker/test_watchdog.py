import itertools

import pytest

from imagetrain_api import job, progress
from imagetrain_trainer.worker import process_state, silence, watchdog

RECOVERY = job.RecoverySettings(step_timeout_seconds=60, start_timeout_seconds=600)
SLEEPING = process_state.ProcessState(state="S", cpu_seconds=0.0, threads=9)


def judge(
    phase: str,
    silent: silence.Silence,
    *,
    wait: str = "",
    step_limit: float = 60.0,
    start_limit: float = 600.0,
    state: str = "S",
):
    report = progress.Progress(rank=3, phase=phase, step=41, waiting_for=wait)
    process = process_state.ProcessState(state=state, cpu_seconds=1.0, threads=9)
    return watchdog.find_hang(
        report,
        RECOVERY,
        silent=silent,
        process=process,
        step_limit_seconds=step_limit,
        start_limit_seconds=start_limit,
    )


@pytest.mark.parametrize(
    ("phase", "wait", "step_limit", "silent", "suspect"),
    [
        ("starting", "", 60, {"start_seconds": 600}, ""),
        ("starting", "peers", 60, {"start_seconds": 601, "report_seconds": 1}, "start"),  # however it reports meanwhile
        ("training", "", 20, {"start_seconds": 599, "report_seconds": 599}, ""),  # compiles its first step
        ("training", "", 20, {"start_seconds": 601, "report_seconds": 5}, "start"),
        ("training", "", 20, {"start_seconds": 900, "report_seconds": 20, "has_stepped": True}, ""),
        ("training", "", 20, {"start_seconds": 900, "report_seconds": 20.1, "has_stepped": True}, "step"),
        ("training", "input", 20, {"report_seconds": 59, "has_stepped": True}, ""),  # the storage may come back
        ("training", "input", 20, {"report_seconds": 61, "has_stepped": True}, "step"),
        ("evaluating", "", 20, {"report_seconds": 599}, ""),  # compiles its first batch
        ("evaluating", "", 20, {"report_seconds": 59, "has_evaluated": True}, ""),
        ("evaluating", "", 20, {"report_seconds": 61, "has_evaluated": True}, "evaluation"),
        ("checkpointing", "", 20, {"report_seconds": 599, "has_stepped": True}, ""),  # as long as it takes to upload
        ("checkpointing", "", 20, {"report_seconds": 601, "has_stepped": True}, "checkpoint"),
        ("publishing", "", 20, {"report_seconds": 599, "has_stepped": True}, ""),
        ("publishing", "", 20, {"report_seconds": 601, "has_stepped": True}, "export"),
    ],
)
def test_silence_is_a_hang_when_its_phase_forbids_it(phase, wait, step_limit, silent, suspect) -> None:
    verdict = judge(phase, silence.Silence(**silent), wait=wait, step_limit=step_limit)
    assert (verdict.suspect if verdict else "") == suspect


@pytest.mark.parametrize(
    ("silent", "state", "words"),
    [
        ({"stopped_seconds": 1.9}, "T", None),  # a debugger, a snapshot
        ({"stopped_seconds": 2.0}, "T", "SIGSTOP"),
        ({"beat_seconds": 5.0, "is_idle": True}, "S", None),
        ({"beat_seconds": 5.1, "is_idle": True}, "S", "native call"),
        ({"beat_seconds": 5.1, "is_idle": True}, "D", "kernel"),
        ({"beat_seconds": 55.0, "is_idle": False}, "R", None),  # a native call that computes has its phase's time
    ],
)
@pytest.mark.parametrize("phase", progress.PHASES)
def test_process_that_stands_still_is_frozen_in_any_phase(phase, silent, state, words) -> None:
    verdict = judge(phase, silence.Silence(**silent), state=state)
    assert (verdict.suspect if verdict else None) == ("frozen" if words else None)
    assert words is None or words in verdict.message


def test_process_that_joins_the_group_has_no_heart_and_is_frozen_only_if_stopped() -> None:
    silent = silence.Silence(start_seconds=300, beat_seconds=299, is_idle=True)
    assert judge("starting", silent, wait="peers") is None
    assert judge("starting", silent).suspect == "frozen"
    assert judge("starting", silence.Silence(stopped_seconds=3), wait="peers", state="T").suspect == "frozen"


def test_verdict_names_rank_phase_and_limit() -> None:
    overdue = silence.Silence(report_seconds=100, has_stepped=True)
    assert judge("training", overdue).message == (
        "Rank 3 reported nothing for 100 s while training (recovery.stepTimeoutSeconds allows 60 s)."
    )
    assert "this run's own steps allow 20 s" in judge("training", overdue, step_limit=20.0).message
    assert "waiting for input" in judge("training", overdue, wait="input").message


def play(watch: watchdog.Watch, reports, *, process=SLEEPING, since: float = 0.0, tick: float = 0.1):
    """Observe reports tick by tick; return the first verdict and its second."""
    for number, report in enumerate(reports):
        now = since + number * tick
        if verdict := watch.observe(report, process, now):
            return verdict, now
    return None, since + len(list(reports)) * tick if not isinstance(reports, itertools.repeat) else since


def stepping(executions: int, *, ticks: int = 10, since: int = 0):
    """Yield what a run of executions of `ticks` ticks each reports, with its beats."""
    for execution in range(since, since + executions):
        for tick in range(ticks):
            at = 1000.0 + execution * ticks + tick
            yield progress.Progress(phase="training", step=execution, updated_at=1000.0 + execution, beat_at=at)


def hanging(step: int, ticks: int):
    for tick in range(ticks):
        yield progress.Progress(phase="training", step=step, updated_at=1000.0 + step, beat_at=90000.0 + tick)


def test_step_deadline_comes_from_the_run_itself() -> None:
    watch = watchdog.Watch(RECOVERY, started_at=0.0)
    verdict, at = play(watch, itertools.chain(stepping(20), hanging(19, 1000)))
    assert verdict.suspect == "step"
    assert at == pytest.approx(19.0 + 20.0, abs=0.3)  # executions take 1 s, and 20 of them are waited for


def test_step_deadline_of_fast_steps_has_a_floor_and_of_slow_ones_the_jobs_limit() -> None:
    fast = watchdog.Watch(RECOVERY, started_at=0.0)
    verdict, at = play(fast, itertools.chain(stepping(40, ticks=2), hanging(39, 1000)))
    assert (verdict.suspect, at) == ("step", pytest.approx(39 * 0.2 + silence.STEP_FLOOR_SECONDS, abs=0.3))
    slow = watchdog.Watch(RECOVERY, started_at=0.0)
    verdict, at = play(slow, itertools.chain(stepping(8, ticks=50), hanging(7, 1000)))
    assert (verdict.suspect, at) == ("step", pytest.approx(7 * 5 + 60.0, abs=0.3))


def test_next_generation_knows_the_step_deadline_from_the_one_before() -> None:
    times = silence.RunTimes()
    play(watchdog.Watch(RECOVERY, times, started_at=0.0), stepping(20))
    next_one = watchdog.Watch(RECOVERY, times, started_at=100.0)
    verdict, at = play(next_one, itertools.chain(stepping(3), hanging(2, 1000)), since=100.0)
    assert (verdict.suspect, at) == ("step", pytest.approx(102.0 + 20.0, abs=0.3))


def test_first_start_may_take_what_the_job_allows_and_the_next_ones_what_it_took() -> None:
    times = silence.RunTimes()
    assert play(watchdog.Watch(RECOVERY, times, started_at=0.0), hanging(0, 5990))[0] is None
    play(
        watchdog.Watch(RECOVERY, times, started_at=0.0), [*hanging(0, 200), *stepping(20)]
    )  # the first step ends after 21 s
    verdict, at = play(watchdog.Watch(RECOVERY, times, started_at=0.0), hanging(19, 2000))
    assert (verdict.suspect, at) == ("start", pytest.approx(5 * 21.0, abs=0.3))
    assert "this run's own starts allow 105 s" in verdict.message


def test_start_deadline_of_fast_starts_has_a_floor_and_is_the_jobs_while_others_are_waited_for() -> None:
    times = silence.RunTimes()
    play(watchdog.Watch(RECOVERY, times, started_at=0.0), stepping(20))
    _, at = play(watchdog.Watch(RECOVERY, times, started_at=0.0), hanging(19, 1000))
    assert at == pytest.approx(silence.START_FLOOR_SECONDS, abs=0.3)
    slow = silence.Silence(start_seconds=599)
    for phase, wait in (("starting", "peers"), ("starting", "storage"), ("training", "input")):
        assert judge(phase, slow, wait=wait, start_limit=60.0) is None
    assert judge("training", slow, start_limit=60.0).suspect == "start"


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
def test_clock_that_jumps_makes_no_hang_and_hides_none(jump: float) -> None:
    watch = watchdog.Watch(RECOVERY, started_at=0.0)
    moved = progress.Progress(phase="training", step=20, updated_at=2000.0 + max(0.0, jump), beat_at=1.0)
    reports = [*stepping(20), *[moved] * 2]
    assert play(watch, reports)[0] is None
    still = (
        progress.Progress(phase="training", step=20, updated_at=moved.updated_at, beat_at=1e6 + jump + tick)
        for tick in range(1000)
    )
    verdict, at = play(watch, still, since=22 * 0.1 + 18)
    assert verdict.suspect == "step"
    assert at > 20.2 + 19


def test_supervisor_that_stood_still_itself_accuses_nobody() -> None:
    watch = watchdog.Watch(RECOVERY, started_at=0.0)
    last = list(stepping(20))[-1]
    play(watch, stepping(20))
    assert watch.observe(last, SLEEPING, 20.0 + 7200.0) is None  # the machine slept for two hours
    assert watch.observe(last, SLEEPING, 20.1 + 7200.0) is None


def test_heart_that_stands_still_is_told_within_six_seconds() -> None:
    watch = watchdog.Watch(RECOVERY, started_at=0.0)
    play(watch, stepping(20))
    last = list(stepping(20))[-1]
    verdict, at = play(watch, itertools.repeat(last, 100), since=20.0)
    assert (verdict.suspect, at) == ("frozen", pytest.approx(25.0, abs=0.3))
    assert watch.silent_seconds == pytest.approx(5.0, abs=0.3)


def test_process_before_its_first_beat_may_import_for_long() -> None:
    watch = watchdog.Watch(RECOVERY, started_at=0.0)
    assert play(watch, itertools.repeat(progress.Progress(), 500))[0] is None
