"""Images for int8 ranges: few reads, the same ones each time, all classes."""

import pathlib

import numpy as np
import pytest

from imagetrain_trainer.data import pack, pack_options, reader
from imagetrain_trainer.storage import store
from imagetrain_trainer.training import calibration

CLASSES = 5


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> reader.DatasetReader:
    """A split of many shards."""
    folder: pathlib.Path = tmp_path_factory.mktemp("calibration")
    images = np.random.default_rng(0).integers(0, 256, (1500, 6, 6, 1)).astype(np.uint8)
    np.savez(folder / "x.npz", x=images, y=np.arange(1500) % CLASSES)
    pack.pack(folder / "x.npz", str(folder / "set"), pack_options.PackOptions(ratios=(1, 0, 0), shard_size_bytes=1024))
    return reader.DatasetReader(store.open_store(str(folder / "set")), "train")


def test_images_of_a_large_split_come_from_few_shards_and_evenly_from_the_classes(
    records: reader.DatasetReader,
) -> None:
    shards = len(records.origin.shards)
    assert shards > 2 * calibration.MOST_SHARDS
    before = records.counters.requests.requests
    chosen = calibration.choose(records, 50, seed=3)
    assert records.counters.requests.requests - before == calibration.MOST_SHARDS  # one GET an index
    np.testing.assert_array_equal(calibration.choose(records, 50, seed=3), chosen)
    assert calibration.choose(records, 50, seed=4).tolist() != chosen.tolist()
    assert len(np.unique(chosen)) == 50
    assert np.bincount(records.labels[chosen]).tolist() == [10] * CLASSES


def test_more_shards_are_read_where_they_hold_too_few_images(records: reader.DatasetReader) -> None:
    assert len(np.unique(calibration.choose(records, 900, seed=3))) == 900
    assert len(calibration.choose(records, 10_000, seed=3)) == records.records


@pytest.mark.parametrize(
    ("held", "samples", "count"),
    [([9] * 64, 5, 64), ([9] * 65, 5, 64), ([1] * 200, 100, 100), ([1] * 200, 500, 200)],
)
def test_shards_are_drawn_up_to_a_bound_or_until_they_hold_enough(held: list[int], samples: int, count: int) -> None:
    chosen = calibration.choose_shards(held, samples, seed=1)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == count
    assert sum(held[number] for number in chosen) >= min(samples, sum(held))


def test_a_rare_class_gives_all_that_it_has() -> None:
    labels = np.array([0] * 50 + [1] * 3, np.int32)
    chosen = calibration.choose_places(labels, 10, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [7, 3]
