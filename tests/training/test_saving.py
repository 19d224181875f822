import pathlib
import threading
from collections.abc import Iterator

import numpy as np
import pytest

import paused_stores
from imagetrain_trainer import errors
from imagetrain_trainer.training import checkpoints, local_copies, saving, state_layout


def arrays(value: float) -> dict[str, np.ndarray]:
    return {"a": np.full(6, value, np.float32), "b": np.full((2, 2), value), "n": np.array(int(value))}


class Bench:
    """Savers of one run, each rank with its own view of the store."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.pauses = paused_stores.Pauses()
        self.savers: list[saving.Saver] = []
        self.chief = self.open()
        self.chief.fence.take(1, "a")
        self.chief.fence.branch(0)

    def open(self) -> checkpoints.CheckpointStore:
        store = paused_stores.PausedStore(self.folder / "run", self.pauses)
        return checkpoints.CheckpointStore(store, keep=5)

    def start(self, rank: int = 0, workers: int = 1, **options: float) -> saving.Saver:
        share = saving.Share(rank=rank, workers=workers, generation=1)
        saver = saving.Saver(
            self.chief if rank == 0 else self.open(),
            local_copies.LocalCopies(self.folder / f"work-{rank}"),
            share,
            state_layout.describe_arrays(arrays(0)),
            **options,  # type: ignore[arg-type]  # patience_seconds, sharded_bytes
        )
        self.savers.append(saver)
        return saver

    def value(self, step: int) -> float:
        return float(self.open().load(step).arrays["a"][0])


@pytest.fixture
def bench(tmp_path: pathlib.Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.pauses.go.set()
    for saver in made.savers:
        saver.close()


def test_save_returns_before_the_upload_and_the_state_may_change_at_once(bench: Bench) -> None:
    bench.pauses.go.clear()
    saver, state = bench.start(), arrays(1)
    saver.save(10, state, {"x": 1})
    state["a"][:] = 9
    assert saver.is_busy
    assert bench.open().steps() == []
    bench.pauses.go.set()
    saver.wait()
    assert not saver.is_busy
    assert (saver.complete_step, bench.value(10)) == (10, 1.0)
    assert bench.open().load(10).host == {"x": 1}


def test_second_state_waits_in_a_buffer_of_its_own_and_the_third_waits_for_one(bench: Bench) -> None:
    bench.pauses.go.clear()
    saver = bench.start()
    saver.save(10, arrays(1), {})
    saver.save(20, arrays(2), {})
    third = threading.Thread(target=saver.save, args=(30, arrays(3), {}))
    third.start()
    third.join(0.2)
    assert third.is_alive()
    bench.pauses.go.set()
    third.join(paused_stores.WAIT_SECONDS)
    saver.wait()
    assert [bench.value(step) for step in bench.open().steps()] == [1.0, 2.0, 3.0]


def test_local_copy_is_there_before_the_upload_ends(bench: Bench) -> None:
    bench.pauses.go.clear()
    saver = bench.start()
    saver.save(10, arrays(1), {})
    assert bench.pauses.reached.wait(paused_stores.WAIT_SECONDS)
    assert local_copies.local_steps(bench.folder / "work-0") == (10,)
    assert bench.open().steps() == []


def test_storage_that_comes_back_in_time_costs_nothing_but_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "_LONGEST_PAUSE_SECONDS", 0.01)
    bench.pauses.failures = iter([errors.StorageUnavailableError("away")])
    saver = bench.start()
    saver.save(10, arrays(1), {})
    saver.wait()
    assert bench.value(10) == 1.0


def test_local_copies_go_on_while_an_upload_is_held_up(bench: Bench) -> None:
    bench.pauses.go.clear()
    saver, work = bench.start(), bench.folder / "work-0"
    saver.save(10, arrays(1), {})
    assert bench.pauses.reached.wait(paused_stores.WAIT_SECONDS)
    assert saver.can_copy
    assert all(saver.copy(step, arrays(step), {"x": step}) for step in (20, 30))
    assert local_copies.local_steps(work) == (20, 30)
    manifest, parts = local_copies.LocalCopies(work).read(30)
    assert (manifest.host, len(parts)) == ({"x": 30}, 1)
    bench.pauses.go.set()
    saver.wait()
    assert bench.open().steps() == [10]
    saver.save(40, arrays(4), {})
    saver.wait()
    assert local_copies.local_steps(work) == (30, 40)


def test_state_that_waits_in_the_second_buffer_leaves_none_for_a_copy(bench: Bench) -> None:
    bench.pauses.go.clear()
    saver = bench.start()
    assert saver.can_copy
    saver.save(10, arrays(1), {})
    saver.save(20, arrays(2), {})
    assert not saver.can_copy


@pytest.mark.parametrize(
    ("failure", "patience_seconds"),
    [(errors.AccessDeniedError("denied"), 600.0), (errors.StorageUnavailableError("away"), 0.0)],
)
def test_what_cannot_be_saved_ends_the_run_at_the_next_look(
    bench: Bench, failure: Exception, patience_seconds: float
) -> None:
    bench.pauses.failures = iter([failure] * 5)
    saver = bench.start(patience_seconds=patience_seconds)
    saver.save(10, arrays(1), {})
    for look in (saver.wait, saver.check, lambda: saver.save(20, arrays(2), {})):
        with pytest.raises(type(failure)):
            look()
    assert bench.open().steps() == []


def test_older_generation_is_fenced_and_its_state_is_never_seen(bench: Bench) -> None:
    bench.pauses.go.clear()
    saver = bench.start()
    saver.save(10, arrays(1), {})
    assert bench.pauses.reached.wait(paused_stores.WAIT_SECONDS)
    newer = bench.open()
    newer.fence.take(1, "b")
    newer.fence.branch(0)
    bench.pauses.go.set()
    with pytest.raises(errors.FencedError):
        saver.wait()
    assert newer.steps() == []


def test_manifest_that_slips_past_the_fence_does_not_count(bench: Bench) -> None:
    manifest = bench.chief.build_manifest(
        checkpoints.Place(10, 1), (checkpoints.describe_shard("s", b""),), {}, workers=1
    )
    newer = bench.open()
    newer.fence.take(1, "b")
    newer.fence.branch(0)
    key = f"{manifest.place.folder}/manifest.json"
    bench.chief.objects.put(key, manifest.encode())  # as if the look at the fence had come just before
    assert newer.steps() == []
    newer.collect_garbage(None)
    assert not newer.objects.exists(key)


def test_each_rank_uploads_its_share_and_the_manifest_comes_after_the_last(bench: Bench) -> None:
    savers = [bench.start(rank, 2, sharded_bytes=16) for rank in (0, 1)]
    savers[0].save(10, arrays(1), {})
    while not (shard := list(bench.chief.objects.list())):
        pass
    assert savers[0].is_busy
    savers[1].save(10, arrays(1), {})
    savers[1].wait()
    savers[0].wait()
    keys = [info.key.rpartition("/")[2] for info in bench.chief.objects.list("step-000000000010")]
    assert [key for key in keys if key.endswith("safetensors")] == [
        "state-00000-of-00002.safetensors",
        "state-00001-of-00002.safetensors",
    ]
    assert shard
    loaded = bench.open().load(10)
    for name, array in arrays(1).items():
        np.testing.assert_array_equal(loaded.arrays[name], array)
    assert local_copies.local_steps(bench.folder / "work-1") == (10,)


def test_share_that_never_comes_is_a_lost_peer(bench: Bench) -> None:
    saver = bench.start(0, 2, sharded_bytes=16, patience_seconds=0.2)
    saver.save(10, arrays(1), {})
    with pytest.raises(errors.PeerLostError, match=r"state-00001-of-00002.safetensors.json is not there"):
        saver.wait()
    assert bench.open().steps() == []


def test_what_goes_alongside_comes_after_the_manifest(bench: Bench) -> None:
    seen: list[list[int]] = []
    saver = bench.start()
    saver.save(10, arrays(1), {}, alongside=lambda: seen.append(bench.open().steps()))
    saver.wait()
    assert seen == [[10]]
