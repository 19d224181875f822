"""The job's `spec.data` reaches the reader and the order of samples."""

import pathlib

import numpy as np
import pytest

from imagetrain_api import data_settings, job
from imagetrain_trainer import errors
from imagetrain_trainer.data import pack, reader
from imagetrain_trainer.storage import store
from imagetrain_trainer.training import reading

URI = "s3://datasets/photos/"


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> reader.DatasetReader:
    """90 images of class a, 10 of class b."""
    folder = tmp_path_factory.mktemp("skewed")
    labels = (np.arange(100) % 10 == 0).astype(np.int64)
    np.savez(
        folder / "set.npz", x=np.zeros((100, 4, 4), np.uint8) + np.arange(100, dtype=np.uint8)[:, None, None], y=labels
    )
    pack.pack(folder / "set.npz", str(folder / "set"), pack.PackOptions(ratios=(1, 0, 0)))
    return reader.DatasetReader(store.open_store(str(folder / "set")), "train")


def labels_of_an_epoch(records: reader.DatasetReader, sampling: dict[str, object]) -> list[int]:
    spec = job.JobSpec(
        data=data_settings.DataSettings(uri=URI, sampling=data_settings.SamplingSettings(**sampling)),  # type: ignore[arg-type]
        model=job.ModelSettings(architecture="small_cnn", input_shape=(4, 4, 1)),
        output=job.OutputSettings(uri="s3://models/photos/"),
        training=job.TrainingSettings(global_batch_size=16),
    )
    plan = reading.build_sampler(records, spec)
    ids = np.concatenate([plan.batch_records(step) for step in range(plan.steps_per_epoch)])
    counts: list[int] = np.bincount(records.labels[ids], minlength=2).tolist()
    return counts


def test_every_image_comes_once_unless_asked_otherwise(records: reader.DatasetReader) -> None:
    assert labels_of_an_epoch(records, {}) == [90, 10]


def test_balanced_classes_come_equally_often(records: reader.DatasetReader) -> None:
    assert labels_of_an_epoch(records, {"balance": "classes"}) == [50, 50]


def test_a_weight_is_the_frequency_of_a_class_image(records: reader.DatasetReader) -> None:
    # 90 x 1 against 10 x 3
    assert labels_of_an_epoch(records, {"balance": "weights", "class_weights": {"1": 3.0}}) == [75, 25]


def test_a_weight_of_an_unknown_class_is_refused(records: reader.DatasetReader) -> None:
    with pytest.raises(errors.ConfigError, match=r"spec\.data\.sampling\.classWeights must name classes .* got 'cat'"):
        labels_of_an_epoch(records, {"balance": "weights", "class_weights": {"cat": 3.0}})


def test_the_cache_lies_in_the_work_folder_unless_named(tmp_path: pathlib.Path) -> None:
    settings = data_settings.DataSettings(uri=URI, cache=data_settings.CacheSettings(size="1Gi"), tune_reads=True)
    options = reading.build_options(settings, tmp_path)
    assert options.cache == reader.CacheOptions(folder=tmp_path / "data-cache", max_bytes=2**30)
    assert options.tune
    named = data_settings.DataSettings(uri=URI, cache=data_settings.CacheSettings(size="2G", path="/var/cache/x"))
    assert reading.build_options(named, tmp_path).cache == reader.CacheOptions(
        folder=pathlib.Path("/var/cache/x"), max_bytes=2 * 10**9
    )
