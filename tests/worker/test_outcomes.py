import pytest

from imagetrain_api import progress
from imagetrain_trainer.worker import outcomes


def recovery(generation: int, message: str) -> progress.Recovery:
    return progress.Recovery(generation=generation, reason="Hung", rank=1, message=message, dump_head="x" * 600)


@pytest.mark.parametrize(
    ("message", "kept"),
    [("Rank 1 hung.", [3, 4, 5, 6, 7, 8, 9, 10, 11, 12]), ("x" * 500, [8, 9, 10, 11, 12]), ("\u00e9" * 512, [12])],
)
def test_the_newest_recoveries_that_fit_go_with_the_outcome(tmp_path, message, kept) -> None:
    done = outcomes.build_outcome(0, "m" * 800)
    told = [recovery(generation, message) for generation in range(1, 13)]
    made = outcomes.with_recoveries(done, told)
    outcomes.write_outcome(tmp_path / "outcome.json", made)
    assert outcomes.read_outcome(tmp_path / "outcome.json") == made
    assert [each.generation for each in made.recoveries] == kept


def test_a_full_outcome_goes_without_recoveries() -> None:
    full = outcomes.build_outcome(0, "m" * 2000, summary={"x": "y" * 1900})
    assert outcomes.with_recoveries(full, [recovery(1, "Rank 1 hung.")]) == full
