import pytest

from imagetrain_api import progress, recoveries


def build(**changes: object) -> progress.Recovery:
    given = {
        "generation": 1,
        "reason": "Killed",
        "rank": 1,
        "message": "Rank 1 was killed (SIGKILL).",
        "step": 120,
        "resumed_step": 100,
        "detected_at": 1000.0,
        "resumed_at": 1008.4,
        "lost_seconds": 8.42,
    }
    return progress.Recovery(**{**given, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "Rank 1 was killed (SIGKILL) at step 120; the group goes on from step 100 in place, 8.4 s lost."),
        (
            {"resumed_step": None},
            "Rank 1 was killed (SIGKILL) at step 120; the group goes on from the start in place, 8.4 s lost.",
        ),
        (
            {"resumed_at": None},
            "Rank 1 was killed (SIGKILL) at step 120; the group failed again before it had caught up, 8.4 s lost.",
        ),
        (
            {"message": "Rank 0 has been in step 121 for 12 s\n"},  # it names the step itself
            "Rank 0 has been in step 121 for 12 s; the group goes on from step 100 in place, 8.4 s lost.",
        ),
        (
            {"message": "", "rank": None, "reason": "PeerLost"},
            "The group was lost (PeerLost) at step 120; the group goes on from step 100 in place, 8.4 s lost.",
        ),
    ],
)
def test_a_recovery_is_told_in_one_line(changes: dict[str, object], line: str) -> None:
    assert recoveries.describe(build(**changes)) == line


def test_a_recovery_is_over_when_the_group_is_behind_the_step_or_is_lost_again() -> None:
    first, second = build(resumed_at=None), build(generation=2, resumed_at=None)
    assert recoveries.finished((first,)) == ()
    assert recoveries.running((first,)) == first
    assert recoveries.finished((first, second)) == (first,)
    assert recoveries.running((first, second)) == second
    caught_up = build(generation=2)
    assert recoveries.finished((first, caught_up)) == (first, caught_up)
    assert recoveries.running((first, caught_up)) is None
    assert recoveries.running(()) is None
