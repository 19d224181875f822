"""Records come back exact, or with an error that names shard, record and offset."""

import concurrent.futures

import numpy as np
import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.data import blocks, dataset, pack, reader, sampler, tfrecord
from imagetrain_trainer.storage import store

RANGES_ONLY = reader.ReaderOptions(in_memory_bytes=0)


@pytest.fixture(params=["in memory", "by ranges"])
def options(request):
    return reader.ReaderOptions() if request.param == "in memory" else RANGES_ONLY


@pytest.fixture
def shard(packed):
    shards = dataset.load_dataset(packed).splits["train"].shards
    assert len(shards) > 3
    return shards[1]


def damage(objects, key, position, mask=0x01):
    data = bytearray(objects.get(key))
    data[position] ^= mask
    objects.put(key, bytes(data))


def test_records_come_in_the_order_asked_with_repeats(packed, arrays, options):
    with reader.DatasetReader(packed, "train", options) as records:
        ids = np.array([53, 0, 7, 7, 20, 53])
        batch = records.read(ids)
    positions = [int(key[2:-1]) for key in batch.keys]
    assert batch.record_ids.tolist() == ids.tolist()
    assert batch.payloads == [arrays["x"][position].tobytes() for position in positions]
    assert batch.labels.tolist() == arrays["y"][positions].tolist()
    assert batch.labels.dtype == np.int32
    assert len(batch) == 6
    assert batch.size_bytes == 6 * 20
    assert set(batch.formats) == {"raw"}
    assert (set(batch.heights), set(batch.widths), set(batch.channels)) == ({5}, {4}, {1})


def test_all_splits_together_hold_each_image_once(packed, options):
    keys = []
    for split in dataset.SPLITS:
        with reader.DatasetReader(packed, split, options) as records:
            keys += records.read(np.arange(records.records)).keys
    assert sorted(keys) == sorted(f"x[{position}]" for position in range(90))


def test_labels_are_known_without_reading_records(packed):
    with reader.DatasetReader(packed, "test") as records:
        assert np.bincount(records.labels).tolist() == [6, 6, 6]
        batch = records.read(np.arange(records.records))
        assert batch.labels.tolist() == records.labels.tolist()


def test_an_empty_batch_is_empty(packed, options):
    with reader.DatasetReader(packed, "train", options) as records:
        assert len(records.read(np.array([], np.int64))) == 0


@pytest.mark.parametrize("ids", [[-1], [54], [0, 99]])
def test_a_record_that_is_not_there_is_an_index_error(packed, options, ids):
    with reader.DatasetReader(packed, "train", options) as records, pytest.raises(IndexError, match=r"\[0, 54\)"):
        records.read(np.array(ids))


def test_many_threads_may_read(packed, options):
    with reader.DatasetReader(packed, "train", options) as records:
        plan = sampler.Sampler(blocks.plan_split(records.dataset.splits["train"]), 16)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            batches = list(pool.map(lambda step: records.read(plan.batch_records(step)), range(40)))
    for step, batch in enumerate(batches):
        assert batch.record_ids.tolist() == plan.batch_records(step).tolist()


def test_any_damaged_byte_of_a_shard_is_found_and_named(packed, shard, options):
    first = dataset.load_dataset(packed).splits["train"].shards[0].records
    whole = packed.get(shard.key)
    offsets = [offset for offset, _ in tfrecord.iterate(whole)]
    for position in range(0, len(whole), 7):
        damage(packed, shard.key, position)
        number = sum(offset <= position for offset in offsets) - 1
        with reader.DatasetReader(packed, "train", options) as records:
            place = f"{packed.uri_of(shard.key)} record {number} at offset {offsets[number]} "
            with pytest.raises(errors.DataCorruptError, match=rf"^{place}\(record id {first + number} of train\) must"):
                records.read(np.arange(records.records))
        packed.put(shard.key, whole)


def test_any_damaged_byte_of_an_index_is_found_and_named(packed, shard):
    whole = packed.get(shard.index_key)
    for position in range(len(whole)):
        damage(packed, shard.index_key, position)
        with pytest.raises(errors.DataCorruptError, match=f"^{packed.uri_of(shard.index_key)} must"):
            reader.DatasetReader(packed, "train")
        packed.put(shard.index_key, whole)


def test_a_truncated_index_is_named(packed, shard):
    packed.put(shard.index_key, packed.get(shard.index_key)[:-9])
    with pytest.raises(
        errors.DataCorruptError, match=rf"^{packed.uri_of(shard.index_key)} must hold bytes .*truncated"
    ):
        reader.DatasetReader(packed, "train")


def test_the_valid_index_of_another_shard_is_found(packed, shard):
    other = dataset.load_dataset(packed).splits["train"].shards[0]
    packed.put(shard.index_key, packed.get(other.index_key))
    with pytest.raises(errors.DataCorruptError, match=f"{packed.uri_of(shard.index_key)} must be the index of"):
        reader.DatasetReader(packed, "train")


def test_a_truncated_shard_is_named(packed, shard, options):
    packed.put(shard.key, packed.get(shard.key)[:-1])
    with (
        reader.DatasetReader(packed, "train", options) as records,
        pytest.raises(errors.DataCorruptError, match=packed.uri_of(shard.key)),
    ):
        records.read(np.arange(records.records))


def test_records_swapped_within_a_shard_are_found(packed, shard, options):
    """Every record has a right CRC, but not the one that the index has in its place."""
    frames = [tfrecord.frame(data)[0] for _, data in tfrecord.iterate(packed.get(shard.key))]
    sizes = [len(frame) for frame in frames]
    twin = sizes.index(sizes[0], 1)
    frames[0], frames[twin] = frames[twin], frames[0]
    packed.put(shard.key, b"".join(frames))
    with (
        reader.DatasetReader(packed, "train", options) as records,
        pytest.raises(errors.DataCorruptError, match="must match its CRC32C"),
    ):
        records.read(np.arange(records.records))


@pytest.mark.parametrize("what", ["key", "index_key"])
def test_a_missing_file_is_named(packed, shard, what, options):
    packed.delete([getattr(shard, what)])
    missing = packed.uri_of(getattr(shard, what))
    with (
        pytest.raises(errors.ObjectNotFoundError, match=missing),
        reader.DatasetReader(packed, "train", options) as records,
    ):
        records.read(np.arange(records.records))


@pytest.mark.parametrize("name", ["moto_s3", "versitygw_s3"])
def test_a_data_set_in_s3_reads_like_one_in_a_folder(request, monkeypatch, packed, npz, options, name):
    server = request.getfixturevalue(name)
    for variable, value in server.environment().items():
        monkeypatch.setenv(variable, value)
    uri = f"s3://{server.create_bucket(f'reader-{options.in_memory_bytes}')}/numbers/v1/"
    pack.pack(npz, uri, pack.PackOptions(shard_size_bytes=2048))
    remote = store.open_store(uri)
    assert remote.get("dataset.json") == packed.get("dataset.json")
    with reader.DatasetReader(remote, "train", options) as there, reader.DatasetReader(packed, "train") as here:
        plan = sampler.Sampler(blocks.plan_split(there.dataset.splits["train"]), 16, 3)
        for step in range(plan.steps_per_epoch):
            assert there.read(plan.batch_records(step)).payloads == here.read(plan.batch_records(step)).payloads
