import pathlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from imagetrain_api import job, names
from imagetrain_trainer import errors
from imagetrain_trainer.data import pack, reader
from imagetrain_trainer.storage import store as storage
from imagetrain_trainer.training import inputs, reading

BATCH, EPOCHS = 32, 2


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> reader.DatasetReader:
    folder: pathlib.Path = tmp_path_factory.mktemp("inputs")
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (230, 9, 7, 1)).astype(np.uint8)
    np.savez(folder / "x.npz", x=images, y=np.arange(230) % 5)
    pack.pack(folder / "x.npz", str(folder / "set"))
    return reader.DatasetReader(storage.open_store(str(folder / "set")), "train")


@pytest.fixture(scope="module")
def skewed(tmp_path_factory: pytest.TempPathFactory) -> reader.DatasetReader:
    """One image of ten is of the second class."""
    folder: pathlib.Path = tmp_path_factory.mktemp("skewed")
    images = np.random.default_rng(2).integers(0, 256, (230, 9, 7, 1)).astype(np.uint8)
    np.savez(folder / "x.npz", x=images, y=(np.arange(230) % 10 == 0).astype(int))
    pack.pack(folder / "x.npz", str(folder / "set"))
    return reader.DatasetReader(storage.open_store(str(folder / "set")), "train")


def spec_of(input_shape: tuple[int, ...] = (9, 7, 1), balance: str = "none", **training: Any) -> job.JobSpec:
    manifest = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": "inputs"},
        "spec": {
            "data": {"uri": "s3://set/x", "sampling": {"balance": balance}},
            "model": {"architecture": "small_cnn", "inputShape": list(input_shape)},
            "training": {"globalBatchSize": BATCH, "epochs": EPOCHS, "seed": 3, **training},
            "output": {"uri": "s3://out/x"},
        },
    }
    return job.decode_job(manifest).spec


CROPPED: dict[str, Any] = {"augmentation": {"crop": {}}}
CROPPED_AND_FLIPPED = {"augmentation": {"crop": {"minArea": 0.3}, "flip": "horizontal"}}
CROPPED_AND_TURNED = {"augmentation": {"crop": {}, "flip": "both", "rotationDegrees": 20}}
AUGMENTED = {"augmentation": {"flip": "both", "shift": 0.2, "rotationDegrees": 20, "zoom": 0.1, "fill": "reflect"}}


def read_steps(
    records: reader.DatasetReader, spec: job.JobSpec, *, world: int = 1, first_step: int = 0
) -> list[list[dict[str, Any]]]:
    """Return the batches of each step, one a replica."""
    total = reading.build_sampler(records, spec).steps_per_epoch * EPOCHS
    by_replica = []
    for replica in range(world):
        with inputs.TrainingInput(
            records,
            spec,
            first_step=first_step,
            total_steps=total,
            replicas=range(replica, replica + 1),
            world_size=world,
        ) as batches:
            elements = batches.dataset.take(total - first_step).as_numpy_iterator()
            by_replica.append(list(elements))
    return [list(step) for step in zip(*by_replica, strict=True)]


@pytest.mark.parametrize("changes", [AUGMENTED, CROPPED, CROPPED_AND_FLIPPED, CROPPED_AND_TURNED])
@pytest.mark.parametrize("world", [2, 3])
def test_group_of_any_size_sees_the_same_samples_in_the_same_order_with_the_same_pixels(
    records: reader.DatasetReader, world: int, changes: dict[str, Any]
) -> None:
    spec = spec_of(**changes)
    for alone, together in zip(read_steps(records, spec), read_steps(records, spec, world=world), strict=True):
        for key in ("record_ids", "labels", "images"):
            np.testing.assert_array_equal(np.concatenate([part[key] for part in together]), alone[0][key])
        assert {float(part["global_size"]) for part in together} == {float(len(alone[0]["labels"]))}


def test_every_record_comes_exactly_once_an_epoch(records: reader.DatasetReader) -> None:
    steps = read_steps(records, spec_of())
    half = len(steps) // EPOCHS
    for epoch in (steps[:half], steps[half:]):
        ids = np.concatenate([step[0]["record_ids"] for step in epoch])
        assert sorted(ids.tolist()) == list(range(records.records))
    assert [s[0]["record_ids"].tolist() for s in steps[:half]] != [s[0]["record_ids"].tolist() for s in steps[half:]]


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("changes", [CROPPED, {"augmentation": {"rotationDegrees": 20}}])
def test_copies_of_an_image_in_a_balanced_epoch_differ_and_do_so_alike_at_any_group_size(
    skewed: reader.DatasetReader, world: int, changes: dict[str, Any]
) -> None:
    spec = spec_of(**changes, balance="classes")
    straight = read_steps(skewed, spec)
    parts = straight if world == 1 else read_steps(skewed, spec, world=world)
    shown: dict[int, list[bytes]] = {}
    for alone, together in zip(straight, parts, strict=True):
        np.testing.assert_array_equal(np.concatenate([part["images"] for part in together]), alone[0]["images"])
        for record_id, image in zip(alone[0]["record_ids"], alone[0]["images"], strict=True):
            shown.setdefault(int(record_id), []).append(image.tobytes())
    copies = {record_id: images for record_id, images in shown.items() if len(images) > 2 * EPOCHS}
    assert copies
    assert all(len(set(images)) > len(images) // 2 for images in copies.values())


@pytest.mark.parametrize("changes", [AUGMENTED, CROPPED_AND_FLIPPED])
def test_resumed_input_continues_where_it_stopped(records: reader.DatasetReader, changes: dict[str, Any]) -> None:
    spec = spec_of(**changes)
    for straight, resumed in zip(read_steps(records, spec)[3:], read_steps(records, spec, first_step=3), strict=True):
        np.testing.assert_array_equal(straight[0]["images"], resumed[0]["images"])


@pytest.mark.parametrize(
    ("count", "world", "batch"), [(10, 1, 4), (10, 2, 4), (3, 5, 4), (1, 4, 8), (97, 4, 8), (64, 2, 32)]
)
def test_evaluation_counts_every_sample_once_at_any_world_size(count: int, world: int, batch: int) -> None:
    counted = np.zeros(count)
    for replica in range(world):
        plan = inputs.plan_evaluation(count, replicas=range(replica, replica + 1), world_size=world, batch_size=batch)
        for ids, weights in plan:
            assert 0 < len(ids) <= batch
            np.add.at(counted, ids, weights)
    np.testing.assert_array_equal(counted, 1)


def test_more_replicas_than_samples_of_a_step_are_refused_by_name() -> None:
    inputs.check_batches(9, 3, 3)
    with pytest.raises(errors.ConfigError, match=r"spec\.workers must be at most 2 .* Raise training\.globalBatchSize"):
        inputs.check_batches(8, 3, 3)


def test_replicas_of_one_worker_get_the_same_number_of_batches() -> None:
    plan = inputs.plan_evaluation(13, replicas=range(4, 8), world_size=8, batch_size=1)
    assert len(plan) % 4 == 0


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> reader.DatasetReader:
    """JPEG and PNG files of many sizes."""
    folder: pathlib.Path = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(1)
    for number in range(60):
        height, width = random.integers(20, 90, 2)
        pixels = random.integers(0, 256, (5, 5, 3)).astype(np.uint8)
        path = folder / "tree" / f"class{number % 2}" / f"{number}.{'jpg' if number % 3 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((int(width), int(height)), Image.Resampling.BICUBIC).save(path)
    pack.pack(folder / "tree", str(folder / "set"))
    return reader.DatasetReader(storage.open_store(str(folder / "set")), "train")


@pytest.mark.parametrize("world", [2, 3])
def test_group_of_any_size_sees_the_same_windows_of_photographs(photographs: reader.DatasetReader, world: int) -> None:
    spec = spec_of(**CROPPED_AND_FLIPPED, globalBatchSize=16, input_shape=(32, 24, 3))
    alone = read_steps(photographs, spec)
    for one, together in zip(alone, read_steps(photographs, spec, world=world), strict=True):
        np.testing.assert_array_equal(np.concatenate([part["images"] for part in together]), one[0]["images"])
    first, second = (step[0] for step in (alone[0], alone[len(alone) // EPOCHS]))
    assert first["images"].shape[1:] == second["images"].shape[1:] == (32, 24, 3)


def test_each_epoch_shows_other_windows(photographs: reader.DatasetReader) -> None:
    steps = read_steps(photographs, spec_of(**CROPPED, globalBatchSize=64, input_shape=(32, 24, 3)))
    shown = [dict(zip(step[0]["record_ids"].tolist(), step[0]["images"], strict=True)) for step in steps]
    assert len(shown) == EPOCHS
    is_same = [(shown[0][record] == shown[1][record]).all() for record in shown[0]]
    assert not any(is_same)


@pytest.mark.parametrize("has_accelerator", [False, True])
def test_batches_come_to_the_replicas_as_bytes_and_in_order(
    monkeypatch: pytest.MonkeyPatch, *, has_accelerator: bool
) -> None:
    """No accelerator is needed for the way to it: the copies go to the processor."""
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda _kind: ["one"] if has_accelerator else [])
    images = np.arange(24, dtype=np.uint8).reshape(6, 2, 2, 1)
    iterator = inputs.distribute(tf.distribute.MirroredStrategy(["CPU:0"]), tf.data.Dataset.from_tensor_slices(images))
    for expected in images:
        np.testing.assert_array_equal(next(iterator).numpy(), expected)
