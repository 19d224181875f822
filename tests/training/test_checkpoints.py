import json
import pathlib

import numpy as np
import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.storage import store as storage
from imagetrain_trainer.training import checkpoints


@pytest.fixture
def run_store(tmp_path: pathlib.Path) -> storage.ObjectStore:
    return storage.open_store(f"file://{tmp_path}/run")


def made(step: int, value: float = 1.0) -> checkpoints.Checkpoint:
    arrays = {"w": np.full((3, 2), value, np.float32), "seed": np.array([1, 2], np.uint32), "n": np.array(step)}
    return checkpoints.Checkpoint(step=step, arrays=arrays, host={"history": [step]})


def test_loaded_checkpoint_equals_the_saved_one(run_store: storage.ObjectStore) -> None:
    saved = checkpoints.CheckpointStore(run_store, keep=3)
    saved.save(made(7, 0.1))
    loaded = saved.load_newest()
    assert loaded is not None
    assert loaded.step == 7
    assert loaded.host == {"history": [7]}
    for name, array in made(7, 0.1).arrays.items():
        np.testing.assert_array_equal(loaded.arrays[name], array)
        assert loaded.arrays[name].dtype == array.dtype
        assert loaded.arrays[name].shape == array.shape


def test_nothing_saved_is_nothing_loaded(run_store: storage.ObjectStore) -> None:
    assert checkpoints.CheckpointStore(run_store, keep=3).load_newest() is None


def test_newest_and_best_are_kept(run_store: storage.ObjectStore) -> None:
    saved = checkpoints.CheckpointStore(run_store, keep=2)
    for step in (10, 20, 30, 40):
        saved.save(made(step), best_step=10)
    assert saved.steps() == [10, 30, 40]
    assert len(list(run_store.list())) == 6


def test_checkpoint_without_manifest_does_not_exist(run_store: storage.ObjectStore) -> None:
    saved = checkpoints.CheckpointStore(run_store, keep=3)
    saved.save(made(10))
    run_store.put("checkpoints/step-000000000020/g000001/state-00000-of-00001.safetensors", b"half")
    newest = saved.load_newest()
    assert newest is not None
    assert newest.step == 10


@pytest.mark.parametrize("damage", ["flip", "cut", "manifest", "missing", "newer"])
def test_damaged_checkpoint_falls_back_to_the_one_before(run_store: storage.ObjectStore, damage: str) -> None:
    saved = checkpoints.CheckpointStore(run_store, keep=3)
    saved.save(made(10))
    saved.save(made(20))
    folder = "checkpoints/step-000000000020/g000001"
    state = run_store.get(f"{folder}/state-00000-of-00001.safetensors")
    manifest = run_store.get(f"{folder}/manifest.json")
    if damage == "flip":
        run_store.put(f"{folder}/state-00000-of-00001.safetensors", state[:-1] + bytes([state[-1] ^ 1]))
    elif damage == "cut":
        run_store.put(f"{folder}/state-00000-of-00001.safetensors", state[:50])
    elif damage == "manifest":
        run_store.put(f"{folder}/manifest.json", manifest[:20])
    elif damage == "newer":
        document = {**json.loads(manifest), "schemaVersion": 99, "readableBy": 98}
        run_store.put(f"{folder}/manifest.json", json.dumps(document).encode())
    else:
        run_store.delete([f"{folder}/state-00000-of-00001.safetensors"])
    newest = saved.load_newest()
    assert newest is not None
    assert newest.step == 10


def test_only_damaged_checkpoints_is_an_error_not_a_fresh_start(run_store: storage.ObjectStore) -> None:
    saved = checkpoints.CheckpointStore(run_store, keep=3)
    saved.save(made(10))
    run_store.put("checkpoints/step-000000000010/g000001/state-00000-of-00001.safetensors", b"x")
    with pytest.raises(errors.DataCorruptError, match="Every checkpoint"):
        saved.load_newest()


def test_complete_checkpoint_is_never_overwritten(run_store: storage.ObjectStore) -> None:
    saved = checkpoints.CheckpointStore(run_store, keep=3)
    saved.save(made(10, 1.0))
    saved.save(made(10, 2.0))
    assert saved.load(10).arrays["w"][0, 0] == 1.0
