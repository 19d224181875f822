import dataclasses

import hypothesis
import pytest
from hypothesis import strategies as st

from imagetrain_trainer.worker import guilt


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    rank: int = 0
    state: str = "running"
    exit_code: int | None = None
    message: str = ""
    step: int = 10
    entered_step: int = 11
    phase: str = "training"
    waiting_for: str = ""
    silent_seconds: float = 0.2
    suspect: str = "step"
    place: str = ""


DEAD = {"state": "ended", "exit_code": -9, "suspect": ""}


@pytest.mark.parametrize(
    ("first", "second", "rank", "reason"),
    [
        ({}, DEAD, 1, "Killed"),
        ({"suspect": "frozen", "silent_seconds": 9.0}, DEAD, 1, "Killed"),
        ({}, {"state": "ended", "exit_code": 110}, 1, "InternalError"),
        ({}, {"suspect": "frozen"}, 1, "Frozen"),
        ({"step": 3}, {"suspect": "frozen"}, 1, "Frozen"),  # the one behind waits for it
        ({"suspect": "frozen", "silent_seconds": 6.0}, {"suspect": "frozen", "silent_seconds": 9.0}, 1, "Frozen"),
        ({}, {"step": 9}, 1, "Hung"),
        ({"waiting_for": "input"}, {"step": 9, "waiting_for": "peers"}, 1, "Hung"),
        ({}, {"entered_step": 10}, 1, "Hung"),  # finished the step and never came to the next
        ({"waiting_for": "peers"}, {"waiting_for": "input"}, 1, "Hung"),
        ({}, {"waiting_for": "storage"}, 1, "Hung"),
        ({"waiting_for": "peers"}, {"waiting_for": ""}, 1, "Hung"),
        ({"silent_seconds": 0.4}, {"silent_seconds": 12.0}, 1, "Hung"),
        ({"silent_seconds": 0.4}, {"silent_seconds": 0.6}, None, "Hung"),
        ({"waiting_for": "peers"}, {"waiting_for": "peers"}, None, "Hung"),
        ({"waiting_for": "input"}, {"waiting_for": "input"}, None, "Hung"),
        ({}, {"state": "ended", "exit_code": 0}, 0, "Hung"),  # a rank that is done holds nobody up
        ({}, {"state": "ended", "exit_code": 80}, 0, "Hung"),  # nor one that lost its peer
        ({"state": "idle"}, {"state": "idle"}, None, "Hung"),
    ],
)
def test_rank_that_holds_the_others_up_is_named(first, second, rank, reason) -> None:
    reports = [Report(rank=0, **first), Report(rank=1, **second)]
    for order in (reports, reports[::-1]):
        found = guilt.judge(order, 0.0)
        assert (found.rank, found.reason) == (rank, reason)
        assert found.message.startswith("Rank" if rank is None and "idle" not in str(first) else ("Rank", "The group"))


def test_message_tells_the_place_and_the_evidence_in_one_line() -> None:
    reports = [Report(rank=0, waiting_for="peers"), Report(rank=1, place="call (blocks.py:12)")]
    assert guilt.judge(reports, 0.0).message == "Rank 1 hung in call (blocks.py:12) (the others waited for it)."
    frozen = Report(rank=1, suspect="frozen", message="Rank 1 stood still.")
    assert guilt.judge([Report(), frozen], 0.0).message == "Rank 1 stood still."


REPORTS = st.builds(
    Report,
    state=st.sampled_from(["running", "running", "running", "ended"]),
    exit_code=st.none(),
    step=st.integers(0, 2),
    entered_step=st.integers(1, 3),
    waiting_for=st.sampled_from(["", "input", "peers", "storage"]),
    silent_seconds=st.floats(0, 60),
    suspect=st.sampled_from(["", "frozen", "step"]),
)
# No two are silent equally long: of two that are alike the lower one would be named.
GROUPS = st.lists(REPORTS, min_size=1, max_size=6, unique_by=lambda report: report.silent_seconds).map(
    lambda reports: [dataclasses.replace(report, rank=rank) for rank, report in enumerate(reports)]
)


def ended(report: Report, code: int) -> Report:
    return dataclasses.replace(report, state="ended", exit_code=code)


@hypothesis.given(GROUPS, st.randoms())
def test_order_of_the_reports_changes_nothing(reports, random) -> None:
    shuffled = random.sample(reports, len(reports))
    assert guilt.judge(shuffled, 0.0) == guilt.judge(reports, 0.0)


@hypothesis.given(GROUPS, st.data())
def test_renaming_the_ranks_renames_the_guilty_one(reports, data) -> None:
    names = data.draw(st.permutations(range(len(reports))))
    renamed = [dataclasses.replace(report, rank=names[report.rank]) for report in reports]
    found, again = guilt.judge(reports, 0.0), guilt.judge(renamed, 0.0)
    assert again.rank == (None if found.rank is None else names[found.rank])


@hypothesis.given(GROUPS, st.data(), st.sampled_from([-9, -11, 110, 83, 101]))
def test_dead_rank_is_always_guilty(reports, data, code) -> None:
    rank = data.draw(st.integers(0, len(reports) - 1))
    group = [ended(report, code) if report.rank == rank else report for report in reports]
    assert guilt.judge(group, 0.0).rank == rank


@hypothesis.given(GROUPS)
def test_frozen_rank_is_guilty_where_none_is_dead(reports) -> None:
    frozen = [report.rank for report in reports if report.suspect == "frozen" and report.state == "running"]
    hypothesis.assume(frozen)
    assert guilt.judge(reports, 0.0).rank in frozen


@hypothesis.given(GROUPS)
def test_rank_that_has_nothing_to_run_is_never_guilty(reports) -> None:
    rank = guilt.judge(reports, 0.0).rank
    assert rank is None or reports[rank].state == "running"


@hypothesis.given(GROUPS)
def test_rank_that_is_ahead_of_another_living_one_is_never_guilty(reports) -> None:
    living = [report for report in reports if report.state == "running"]
    rank = guilt.judge(reports, 0.0).rank
    hypothesis.assume(rank is not None and not any(report.suspect == "frozen" for report in living))
    places = {report.rank: (report.step, report.entered_step) for report in living}
    assert places[rank] == min(places.values())


@pytest.mark.parametrize(
    ("first", "second", "is_excused"),
    [
        ({}, {"suspect": "", "waiting_for": "input"}, True),
        ({}, {"suspect": "", "phase": "checkpointing"}, True),
        ({}, {"suspect": "step", "waiting_for": "input"}, False),  # its own time is over too
        ({}, {"suspect": ""}, False),
        ({"suspect": "frozen"}, {"suspect": "", "waiting_for": "input"}, False),
    ],
)
def test_wait_for_a_rank_that_waits_in_its_time_is_no_hang(first, second, is_excused) -> None:
    assert guilt.is_excused([Report(rank=0, **first), Report(rank=1, **second)]) == is_excused
