import pathlib
import shutil
import threading
from collections.abc import Sequence
from concurrent import futures

import numpy as np
import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.storage import store as storage
from imagetrain_trainer.training import checkpoints, local_copies, restoring, saving, state_layout

WAIT_SECONDS = 30.0


class Meeting:
    """The exchange of numbers between ranks that are threads here."""

    def __init__(self, workers: int) -> None:
        self._rows: list[list[int]] = [[] for _ in range(workers)]
        self._barrier = threading.Barrier(workers, timeout=WAIT_SECONDS)

    def tell(self, rank: int, values: Sequence[int]) -> list[list[int]]:
        self._rows[rank] = list(values)
        self._barrier.wait()
        rows = [list(row) for row in self._rows]
        self._barrier.wait()
        return rows


class Bench:
    def __init__(self, folder: pathlib.Path, workers: int = 2) -> None:
        self.folder, self.workers = folder, workers

    def open(self) -> checkpoints.CheckpointStore:
        return checkpoints.CheckpointStore(storage.open_store(str(self.folder / "run")), keep=5)

    def copies(self, rank: int) -> local_copies.LocalCopies:
        return local_copies.LocalCopies(self.folder / f"work-{rank}")

    def restore(self, resume_step: int | None = None, holder: str = "a") -> list[restoring.Restored]:
        meeting = Meeting(self.workers)

        def run(rank: int) -> restoring.Restored:
            start = restoring.Start(rank=rank, generation=1, incarnation=holder, resume_step=resume_step)
            self.stores[rank] = self.open()
            return restoring.Restorer(
                self.stores[rank], self.copies(rank), start, lambda values: meeting.tell(rank, values)
            ).restore()

        self.stores: dict[int, checkpoints.CheckpointStore] = {}
        with futures.ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(run, range(self.workers)))

    def train(self, *steps: int) -> None:
        """Let a new generation save at steps, on every rank."""
        restored = self.restore()
        for rank in reversed(range(self.workers)):
            arrays = {"w": np.zeros(3, np.float32)}
            saver = saving.Saver(
                self.stores[rank],
                self.copies(rank),
                saving.Share(rank=rank, workers=self.workers, generation=restored[rank].generation),
                state_layout.describe_arrays(arrays),
            )
            for step in steps:
                saver.save(step, {"w": np.full(3, step + restored[rank].generation / 10, np.float32)}, {})
            saver.wait()
            saver.close()

    def forget_in_storage(self, step: int) -> None:
        shutil.rmtree(self.folder / "run" / "checkpoints" / f"step-{step:012d}")

    def forget_locally(self, rank: int) -> None:
        shutil.rmtree(self.folder / f"work-{rank}")


@pytest.fixture
def bench(tmp_path: pathlib.Path) -> Bench:
    return Bench(tmp_path)


def steps(found: list[restoring.Restored]) -> list[int | None]:
    return [each.checkpoint.step if each.checkpoint else None for each in found]


def test_fresh_run_begins_on_every_rank_as_generation_one(bench: Bench) -> None:
    found = bench.restore()
    assert steps(found) == [None, None]
    assert [each.generation for each in found] == [1, 1]


def test_every_rank_goes_on_from_the_newest_and_counts_one_generation_more(bench: Bench) -> None:
    bench.train(10, 20)
    found = bench.restore()
    assert steps(found) == [20, 20]
    assert [(each.generation, each.is_stored) for each in found] == [(2, True)] * 2


def test_copies_that_all_have_are_taken_though_storage_lacks_the_checkpoint(bench: Bench) -> None:
    bench.train(10, 20)
    bench.forget_in_storage(20)
    found = bench.restore(resume_step=20)
    assert steps(found) == [20, 20]
    assert not any(each.is_stored for each in found)


@pytest.mark.parametrize("rank", [0, 1])
def test_rank_without_its_copy_reads_from_storage(bench: Bench, rank: int) -> None:
    bench.train(10, 20)
    bench.forget_locally(rank)
    assert steps(bench.restore(resume_step=20)) == [20, 20]


@pytest.mark.parametrize("rank", [0, 1])
def test_all_fall_back_when_one_can_read_the_proposal_nowhere(bench: Bench, rank: int) -> None:
    bench.train(10, 20)
    bench.forget_in_storage(20)
    bench.forget_locally(rank)
    found = bench.restore(resume_step=20)
    assert steps(found) == [10, 10]
    assert [each.is_stored for each in found] == [True, True]
    assert local_copies.local_steps(bench.folder / f"work-{1 - rank}") == (10,)  # the branch that was left is gone


def test_copies_older_than_what_storage_has_are_not_taken(bench: Bench) -> None:
    bench.train(10, 20)
    assert steps(bench.restore(resume_step=10)) == [20, 20]


def test_copies_that_another_run_left_in_the_folder_are_not_taken(bench: Bench) -> None:
    bench.train(10)
    shutil.rmtree(bench.folder / "run")
    assert steps(bench.restore(resume_step=10)) == [None, None]
    assert local_copies.local_steps(bench.folder / "work-0") == ()


def test_damaged_copy_is_passed_over(bench: Bench) -> None:
    bench.train(10)
    (state,) = (bench.folder / "work-1" / "checkpoints").glob("*/state-*")
    state.write_bytes(b"stale")
    assert steps(bench.restore(resume_step=10)) == [10, 10]


def test_copies_of_different_generations_are_never_mixed(bench: Bench) -> None:
    bench.train(10)
    old = bench.folder / "old"
    shutil.copytree(bench.folder / "work-1", old)
    bench.forget_in_storage(10)
    for rank in (0, 1):
        bench.forget_locally(rank)
    bench.train(10)  # generation 2, with other bits
    bench.forget_locally(1)
    shutil.copytree(old, bench.folder / "work-1")
    found = bench.restore(resume_step=10)
    assert steps(found) == [10, 10]
    assert len({float(each.checkpoint.arrays["w"][0]) for each in found if each.checkpoint}) == 1


def test_copy_of_a_branch_that_was_given_up_is_refused(bench: Bench) -> None:
    bench.train(10, 20)
    fence = bench.open().fence
    fence.take(1, "b")
    fence.branch(10)
    assert steps(bench.restore(resume_step=20, holder="b")) == [10, 10]


def test_damaged_checkpoint_in_storage_makes_all_fall_back(bench: Bench) -> None:
    bench.train(10, 20)
    for rank in (0, 1):
        bench.forget_locally(rank)
    (state,) = (bench.folder / "run" / "checkpoints" / "step-000000000020").glob("g*/state-*")
    state.write_bytes(b"x" * state.stat().st_size)
    assert steps(bench.restore()) == [10, 10]


def test_replaced_supervisor_is_fenced(bench: Bench) -> None:
    bench.workers = 1
    bench.restore(holder="lost")
    bench.restore(holder="replacement")
    with pytest.raises(errors.FencedError):
        bench.restore(holder="lost")
