import pytest

from imagetrain_api import progress
from imagetrain_trainer.worker import goodput

UNIX = 1_000_000.0


def report(at: float, phase: str, recoveries: tuple[progress.Recovery, ...] = (), stall: float = 0.0, **spent: float):
    return progress.Progress(
        phase=phase, seconds_by_phase=spent, updated_at=UNIX + at, recoveries=recoveries, input_stall_seconds=stall
    )


def recovery(generation: int, lost: float, *, step: int = 120, is_over: bool = True) -> progress.Recovery:
    return progress.Recovery(
        generation=generation,
        reason="Killed",
        step=step,
        lost_seconds=lost,
        detected_at=UNIX,
        resumed_at=UNIX + 1 if is_over else None,
    )


def observe(ledger: goodput.GoodputLedger, at: float, told: progress.Progress) -> dict[str, float]:
    """Return what is not zero."""
    spent = ledger.observe(told, now=50.0 + at, unix=UNIX + at)
    return {state: pytest.approx(seconds) for state, seconds in spent.items() if seconds > 0}


def test_the_time_of_an_undisturbed_run_is_shared_out_in_full() -> None:
    ledger = goodput.GoodputLedger(50.0)
    assert observe(ledger, 4.0, progress.Progress()) == {"starting": 4.0}
    told = report(100.0, "training", stall=3.0, starting=20.0, training=70.0, checkpointing=4.0, evaluating=6.0)
    expected = {"starting": 20.0, "checkpoint": 4.0, "evaluation": 6.0, "input_stall": 3.0, "training": 67.0}
    assert observe(ledger, 100.0, told) == expected


def test_a_phase_that_goes_on_silently_counts_as_that_phase() -> None:
    ledger = goodput.GoodputLedger(50.0)
    told = report(30.0, "evaluating", starting=20.0, training=10.0)
    assert observe(ledger, 42.0, told) == {"starting": 20.0, "training": 10.0, "evaluation": 12.0}


def test_a_recovery_takes_its_time_from_no_other_state() -> None:
    ledger = goodput.GoodputLedger(50.0)
    observe(ledger, 60.0, report(60.0, "training", starting=20.0, training=36.0, checkpointing=4.0))
    lost = (recovery(1, 10.0, is_over=False),)
    observe(ledger, 70.0, report(66.0, "starting", lost, starting=2.0))
    told = report(80.0, "training", (recovery(1, 12.0),), starting=4.0, training=10.0, checkpointing=1.0)
    expected = {"starting": 20.0, "checkpoint": 5.0, "recovery": 12.0, "training": 43.0}
    assert observe(ledger, 80.0, told) == expected
    assert sum(ledger.observe(told, now=130.0, unix=UNIX + 80.0).values()) == pytest.approx(80.0)


def test_a_third_process_adds_no_second_start() -> None:
    ledger = goodput.GoodputLedger(50.0)
    observe(ledger, 30.0, report(30.0, "training", starting=20.0, training=10.0))
    observe(ledger, 50.0, report(50.0, "training", (recovery(1, 9.0),), starting=5.0, training=8.0))
    both = (recovery(1, 9.0), recovery(2, 7.0))
    spent = observe(ledger, 70.0, report(70.0, "training", both, starting=3.0, training=6.0))
    assert spent == {"starting": 20.0, "recovery": 16.0, "training": 34.0}


def test_a_start_that_was_lost_counts_once() -> None:
    ledger = goodput.GoodputLedger(50.0)
    observe(ledger, 15.0, report(15.0, "starting", starting=15.0))
    spent = observe(ledger, 50.0, report(50.0, "training", (recovery(1, 40.0, step=0),), starting=9.0, training=20.0))
    assert spent == {"starting": 15.0, "recovery": 25.0, "training": 10.0}


def test_no_figure_falls_when_time_turns_out_to_be_lost() -> None:
    ledger = goodput.GoodputLedger(50.0)
    before = observe(ledger, 60.0, report(50.0, "training", starting=20.0, training=30.0))
    assert before["training"] == 40.0
    lost = (recovery(1, 12.0, is_over=False),)
    assert observe(ledger, 61.0, report(50.0, "training", lost, starting=20.0, training=30.0))["training"] == 40.0
    told = report(80.0, "training", (recovery(1, 20.0),), starting=5.0, training=12.0)
    assert observe(ledger, 80.0, told) == {"starting": 20.0, "recovery": 20.0, "training": 40.0}


@pytest.mark.parametrize("jump", [86400.0, -86400.0])
def test_a_jump_of_the_wall_clock_makes_no_time(jump: float) -> None:
    ledger = goodput.GoodputLedger(50.0)
    told = report(30.0, "evaluating", starting=20.0, training=10.0)
    spent = ledger.observe(told, now=90.0, unix=UNIX + 40.0 + jump)
    assert sum(spent.values()) == pytest.approx(40.0)


def test_recoveries_beyond_the_newest_ten_stay_counted() -> None:
    ledger = goodput.GoodputLedger(50.0)
    for first in (1, 6):
        told = tuple(recovery(number, 1.0) for number in range(first, first + 10))
        spent = ledger.observe(report(90.0, "training", told, training=60.0), now=150.0, unix=UNIX + 100.0)
    assert (spent["recovery"], ledger.restarts) == (15.0, {"Killed": 15})
