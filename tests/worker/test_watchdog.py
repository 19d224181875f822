import pytest

from imagetrain_api import job, progress
from imagetrain_trainer.worker import watchdog

RECOVERY = job.RecoverySettings(step_timeout_seconds=60, start_timeout_seconds=600)


@pytest.mark.parametrize(
    ("phase", "updated_at", "now", "is_hang"),
    [
        ("starting", 0.0, 1599.0, False),  # started at 1000, no report yet
        ("starting", 0.0, 1601.0, True),
        ("training", 2000.0, 2060.0, False),
        ("training", 2000.0, 2060.5, True),
        ("evaluating", 2000.0, 2061.0, True),
        ("checkpointing", 2000.0, 2061.0, False),  # as long as it takes to upload
        ("publishing", 2000.0, 2599.0, False),
        ("publishing", 2000.0, 2601.0, True),
        ("training", 2000.0, 1990.0, False),  # the clock was set back
    ],
)
def test_silence_is_a_hang_when_its_phase_forbids_it(
    phase: str,
    updated_at: float,
    now: float,
    is_hang: bool,  # noqa: FBT001
) -> None:
    report = progress.Progress(phase=phase, updated_at=updated_at)
    verdict = watchdog.find_hang(report, RECOVERY, started_at=1000.0, now=now)
    assert (verdict is not None) == is_hang


def test_verdict_names_rank_step_and_setting() -> None:
    report = progress.Progress(rank=3, phase="training", step=41, updated_at=2000.0)
    verdict = watchdog.find_hang(report, RECOVERY, started_at=1000.0, now=2100.0)
    assert verdict is not None
    assert "Rank 3 reported nothing for 100 s while training at step 41" in verdict.message
    assert "recovery.stepTimeoutSeconds allows 60 s" in verdict.message
