"""The stages of reading are measured on the user's own records."""

import numpy as np
import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.data import bench, dataset, pack, reader
from imagetrain_trainer.storage import store


def test_a_sample_is_a_data_set_of_the_first_records(packed, tmp_path):
    whole = dataset.load_dataset(packed)
    sample = bench.take_sample(packed, "validation", tmp_path / "sample")
    with reader.DatasetReader(sample, "train") as some, reader.DatasetReader(packed, "validation") as every:
        assert some.records == whole.splits["validation"].shards[0].records
        ids = np.arange(some.records)
        assert some.read(ids).payloads == every.read(ids).payloads
        assert some.labels.tolist() == every.labels[ids].tolist()
    assert dataset.load_dataset(sample).image == whole.image


def test_a_sample_holds_no_more_than_its_bytes(packed, tmp_path, monkeypatch):
    shard = dataset.load_dataset(packed).splits["train"].shards[0]
    monkeypatch.setattr(bench, "SAMPLE_BYTES", shard.size_bytes // 2)
    sample = bench.take_sample(packed, "train", tmp_path / "sample")
    part = dataset.load_dataset(sample).splits["train"]
    assert 0 < part.size_bytes <= shard.size_bytes // 2
    assert 1 <= part.records < shard.records
    monkeypatch.setattr(bench, "SAMPLE_BYTES", 1)
    assert dataset.load_dataset(bench.take_sample(packed, "train", tmp_path / "one")).records == 1


def test_a_split_without_images_is_an_error_that_names_it(npz, tmp_path):
    uri = str(tmp_path / "set")
    pack.pack(npz, uri, pack.PackOptions(ratios=(1, 1, 0)))
    with pytest.raises(errors.ConfigError, match=r"must have images in its test split"):
        bench.take_sample(store.open_store(uri), "test", tmp_path / "sample")


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
def test_every_byte_of_a_small_split_is_fetched_once(npz, s3_bucket):
    uri = f"s3://{s3_bucket}/set/"
    pack.pack(npz, uri, pack.PackOptions(shard_size_bytes=2048))
    objects = store.open_store(uri)
    train = dataset.load_dataset(objects).splits["train"]
    stage = bench.measure_get(objects, "train", 60, reader.ReaderOptions())
    assert (stage.name, stage.size_bytes) == ("get", train.size_bytes)
    assert stage.images == pytest.approx(train.records)
    assert 0 < stage.seconds < 60


def test_records_are_checked_parsed_and_cached(packed, tmp_path):
    sample = bench.take_sample(packed, "train", tmp_path / "sample")
    records = dataset.load_dataset(sample).records
    crc, parse = bench.measure_check_and_parse(sample, 0.02)
    written, read = bench.measure_cache(sample, tmp_path / "cache", 0.02)
    assert [stage.name for stage in (crc, parse, written, read)] == ["crc", "parse", "cache write", "cache read"]
    for stage in (crc, parse, written, read):
        assert stage.images % records == 0 < stage.images
        assert stage.cpu_seconds > 0
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_stage_is_what_its_whole_does_beyond_a_part():
    part = bench.Stage(name="a", images=10, size_bytes=100, seconds=1, cpu_seconds=2)
    whole = bench.Stage(name="b", images=20, size_bytes=200, seconds=5, cpu_seconds=3)
    assert whole.less(part, "c") == bench.Stage(name="c", images=20, size_bytes=200, seconds=3, cpu_seconds=0)


def test_rates_are_per_second_and_per_cpu_second():
    stage = bench.Stage(name="a", images=10, size_bytes=4e6, seconds=2, cpu_seconds=0.5)
    assert stage.images_per_second == 5
    assert stage.megabytes_per_second == 2
    assert stage.megabytes_per_cpu_second == 8
    assert stage.cpu_seconds_per_image == 0.05


def test_a_stream_is_measured_after_its_warm_up():
    stage = bench.measure_stream("x", iter([(1, 10)] * 8), seconds=60)
    assert (stage.images, stage.size_bytes) == (5, 50)
