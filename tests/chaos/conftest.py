"""Fixtures of the chaos tests: packed images, undisturbed runs to compare with, and the seed of all plans."""

import collections.abc
import os
import pathlib

import pytest

import s3_servers
from imagetrain_chaos import faults, final_state, jobs, plan, records, trials

EPOCHS = 8


@pytest.fixture(scope="session")
def seed() -> int:
    """Return the seed of all plans; a failed test printed it."""
    return int(os.environ.get("IMAGETRAIN_CHAOS_SEED", "1"))


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a folder with packed images."""
    folder = tmp_path_factory.mktemp("chaos-images") / "packed"
    jobs.pack_images(folder)
    return folder / "set"


Undisturbed = collections.abc.Callable[[int], final_state.FinalState]


@pytest.fixture(scope="session")
def undisturbed(images: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Return a function that gives the final state of a run to which nothing happens, by its workers."""
    known: dict[int, final_state.FinalState] = {}

    def find(workers: int) -> final_state.FinalState:
        if workers not in known:
            folder = tmp_path_factory.mktemp(f"undisturbed-{workers}")
            trial = trials.Trial(folder=folder, data=images, workers=workers, epochs=EPOCHS, pace_seconds=0.0)
            with trials.started(trial) as running:
                finished = running.finish()
            assert not finished.records
            assert not finished.leaks
            known[workers] = finished.state
        return known[workers]

    return find


def check_cost(record: records.Record) -> None:
    """Check that a failure's record says from which step the run went on, and what that cost.

    One that another failure followed before any new step has no end of its own.
    """
    assert record.message
    assert record.resumed_step is not None or not record.is_over
    if record.is_in_place and record.is_over:
        assert record.step is not None
        assert record.resumed_step is not None
        assert record.resumed_step <= record.step
        assert 0 < record.lost_seconds < 120


@pytest.fixture
def survive(
    images: pathlib.Path, undisturbed: Undisturbed, tmp_path: pathlib.Path, seed: int
) -> collections.abc.Callable[..., trials.Finished]:
    """Return a function that lets faults happen to a run and checks that its model is that of an undisturbed one."""

    def run(
        *wanted: str | plan.Fault,
        workers: int,
        pace: float = jobs.PACE_SECONDS,
        server: s3_servers.VersitygwServer | None = None,
        is_overlapping: bool = False,
    ) -> trials.Finished:
        kinds = [each.kind if isinstance(each, plan.Fault) else each for each in wanted]
        if reason := trials.missing(kinds):
            pytest.skip(reason)
        trial = trials.Trial(
            folder=tmp_path,
            data=images,
            workers=workers,
            epochs=EPOCHS,
            kinds=kinds,
            pace_seconds=pace,
            server=server,
            spec={"recovery": {"stepTimeoutSeconds": 10}},
        )
        drawn = trials.plan_trial(trial, seed)
        planned = [own if isinstance(own, plan.Fault) else other for own, other in zip(wanted, drawn, strict=True)]
        trials.tell_plan(seed, planned)
        with trials.started(trial) as running:
            (faults.overlap if is_overlapping else faults.happen)(planned, running.run, running.site)
            finished = running.finish(planned)
        allowed = 0.0 if workers == 1 else 1e-5
        assert final_state.largest_difference(undisturbed(workers), finished.state) <= allowed
        assert not finished.leaks
        for record in finished.records:
            check_cost(record)
        assert not finished.records or finished.records[-1].is_over
        return finished

    return run
