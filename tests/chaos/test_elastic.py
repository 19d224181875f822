"""A group goes on without some of its workers, and grows again when they are back; every sample counts once."""

import pathlib

import pytest

from imagetrain_chaos import elastic, jobs, traces

pytestmark = pytest.mark.timeout(400)  # two whole runs, of up to four workers and of one, on a busy machine


@pytest.fixture
def numbered(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a folder with packed images that carry their numbers."""
    return elastic.pack_numbered(tmp_path / "images")


@pytest.mark.parametrize(("workers", "fewest"), [(2, 1), pytest.param(4, 2, marks=pytest.mark.long)])
def test_group_goes_on_smaller_and_grows_again_and_trains_on_every_image_once_an_epoch(
    numbered: pathlib.Path, tmp_path: pathlib.Path, workers: int, fewest: int
) -> None:
    undisturbed = elastic.train(tmp_path / "one", numbered, seed=1, is_disturbed=False, workers=1, fewest=1)
    ended = elastic.train(tmp_path / "many", numbered, seed=1, is_disturbed=True, workers=workers, fewest=fewest)
    assert ended.sizes == (fewest, workers)
    assert ended.trace.sizes() == [workers, fewest, workers]
    assert ended.state.group_sizes == (workers, fewest, workers)
    assert not ended.trace.find_faults()
    trained = ended.trace.trained()
    assert sorted(trained) == list(range(elastic.EPOCHS * jobs.STEPS_PER_EPOCH))
    assert traces.count_losses(trained, jobs.STEPS_PER_EPOCH, elastic.RECORDS) == traces.Losses(lost=0, repeated=0)
    # The same images in the same order as one worker that nothing happens to.
    assert trained == undisturbed.trace.trained()
    assert ended.state.step == undisturbed.state.step
    assert ended.final_loss == pytest.approx(undisturbed.final_loss, abs=0.02)
    assert not ended.leaks
