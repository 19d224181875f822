import pytest

from imagetrain_api import progress
from imagetrain_trainer import errors
from imagetrain_trainer.storage import store as storage
from imagetrain_trainer.training import step_plan

# Steps left out, careful ones, the first step and how many are wanted; how many run together.
TOGETHER = [
    ((), (), 1, 10, 10),
    ((5,), (), 1, 10, 4),
    ((5,), (), 4, 10, 1),
    ((5,), (), 6, 10, 10),
    ((11,), (), 1, 10, 10),
    ((9, 5, 7), (), 3, 10, 2),
    ((), (5, 8), 1, 10, 4),
    ((), (5, 8), 5, 10, 1),
    ((), (5, 8), 8, 10, 1),
    ((), (5, 8), 9, 10, 10),
    ((7,), (9, 9), 5, 10, 2),
]


@pytest.mark.parametrize(("left_out", "careful", "first", "wanted", "expected"), TOGETHER)
def test_executions_end_before_a_step_that_is_special(left_out, careful, first, wanted, expected) -> None:
    plan = step_plan.StepPlan(frozenset(left_out), careful)
    assert plan.most_together(first, wanted) == expected


@pytest.fixture
def run_store(tmp_path) -> storage.ObjectStore:
    return storage.open_store(str(tmp_path))


def test_steps_are_kept_and_added_up(run_store: storage.ObjectStore) -> None:
    assert step_plan.remember(run_store, ()) == frozenset()
    assert step_plan.remember(run_store, (7,)) == {7}
    assert step_plan.remember(run_store, (3, 7)) == {3, 7}
    assert step_plan.remember(run_store, ()) == {3, 7}


def test_nothing_is_written_where_nothing_is_left_out(run_store: storage.ObjectStore) -> None:
    step_plan.remember(run_store, ())
    with pytest.raises(errors.ObjectNotFoundError):
        run_store.get(step_plan.LEFT_OUT_KEY)


def test_too_many_steps_are_a_crash_loop(run_store: storage.ObjectStore) -> None:
    step_plan.remember(run_store, range(1, progress.MAX_SKIPPED_STEPS + 1))
    with pytest.raises(errors.CrashLoopError, match="more than 100 steps, the newest of them step 4000"):
        step_plan.remember(run_store, (4000,))


def test_a_list_that_cannot_be_read_is_told_of_with_its_place(run_store: storage.ObjectStore) -> None:
    run_store.put(step_plan.LEFT_OUT_KEY, b"[]")
    with pytest.raises(errors.DataCorruptError, match=r"left-out-steps\.json is no list of steps"):
        step_plan.remember(run_store, ())


def test_a_write_of_somebody_else_in_between_loses_nothing(run_store: storage.ObjectStore, monkeypatch) -> None:
    step_plan.remember(run_store, (1,))
    put = run_store.put_if_match
    others = iter([(2,)])

    def write_late(*arguments, **options):
        for steps in others:
            step_plan.remember(run_store, steps)
        return put(*arguments, **options)

    monkeypatch.setattr(type(run_store), "put_if_match", lambda _self, *a, **o: write_late(*a, **o))
    assert step_plan.remember(run_store, (3,)) == {1, 2, 3}


def test_the_chiefs_word_counts_for_every_rank(run_store: storage.ObjectStore) -> None:
    told: list[list[int]] = []

    def exchange(values):
        told.append(list(values))
        return [told[0], list(values)]

    ordered = step_plan.StepPlan(frozenset({5}), (8, 9))
    chief = step_plan.settle(ordered, run_store, exchange, is_chief=True)
    other = step_plan.settle(step_plan.StepPlan(careful=(8, 9)), run_store, exchange, is_chief=False)
    assert chief == other == ordered
    assert {len(values) for values in told} == {progress.MAX_SKIPPED_STEPS}
