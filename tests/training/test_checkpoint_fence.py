import pathlib

import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.storage import store as storage
from imagetrain_trainer.storage import whole_reads
from imagetrain_trainer.training import checkpoint_fence, checkpoint_manifest

Place = checkpoint_manifest.Place


@pytest.fixture
def store(tmp_path: pathlib.Path) -> storage.ObjectStore:
    return storage.open_store(str(tmp_path))


def began(store: storage.ObjectStore, step: int, holder: str = "a", number: int = 1) -> checkpoint_fence.FenceKeeper:
    keeper = checkpoint_fence.FenceKeeper(store)
    keeper.take(number, holder)
    keeper.branch(step)
    return keeper


def test_generations_grow_over_attempts_that_count_from_one(store: storage.ObjectStore) -> None:
    numbers = [began(store, 0, holder).read().generation for holder in ("a", "b", "c")]
    assert numbers == [1, 2, 3]


def test_number_of_the_supervisors_is_kept_where_it_is_higher(store: storage.ObjectStore) -> None:
    assert began(store, 0, number=7).read().generation == 7


def test_older_generation_is_fenced_and_the_newest_is_not(store: storage.ObjectStore) -> None:
    old = began(store, 0)
    old.check()
    new = began(store, 5)
    with pytest.raises(errors.FencedError, match="held by generation 2, so generation 1 may write no more"):
        old.check()
    new.check()


def test_generation_that_was_overtaken_before_its_step_was_known_is_fenced(store: storage.ObjectStore) -> None:
    old = checkpoint_fence.FenceKeeper(store)
    old.take(1, "a")
    new = began(store, 0)
    with pytest.raises(errors.FencedError):
        old.branch(0)
    new.check()


def test_supervisor_that_was_replaced_takes_over_no_more(store: storage.ObjectStore) -> None:
    began(store, 0, "lost-node")
    began(store, 0, "replacement")
    with pytest.raises(errors.FencedError):
        checkpoint_fence.FenceKeeper(store).take(2, "lost-node")
    began(store, 3, "replacement")  # it goes on itself


def test_lost_answer_to_a_write_that_succeeded_is_no_defeat(store: storage.ObjectStore) -> None:
    keeper = began(store, 0)
    keeper._replace("an etag of before", keeper.read())
    keeper.branch(4)
    keeper.check()


@pytest.mark.parametrize(
    ("starts", "place", "expected"),
    [
        ([0], Place(20, 1), True),
        ([0, 10], Place(10, 1), True),  # what generation 2 went on from
        ([0, 10], Place(5, 1), True),
        ([0, 10], Place(20, 1), False),  # completed after generation 2 had begun
        ([0, 10], Place(20, 2), True),
        ([0, 10, 30], Place(20, 1), False),  # a later start from further on makes it no better
        ([0, 10, 30], Place(30, 2), True),
        ([0, 30, 10], Place(20, 2), False),  # generation 3 fell back behind it
        ([0, 30, 10], Place(20, 1), False),
        ([0, 30, 10], Place(10, 2), True),
        ([40], Place(40, 0), True),  # of version 1, before there were fences
    ],
)
def test_only_checkpoints_on_the_line_of_the_run_count(
    starts: list[int], place: checkpoint_manifest.Place, *, expected: bool
) -> None:
    fence = checkpoint_fence.Fence()
    for step in starts:
        fence = fence.advance(1, token="t", holder="h").branch(step)
    assert fence.counts(place) is expected


def test_line_of_many_generations_stays_short_when_they_fall_back() -> None:
    fence = checkpoint_fence.Fence()
    for _ in range(50):
        fence = fence.advance(1, token="t", holder="h").branch(10)
    assert fence.branches == (checkpoint_fence.Branch(50, 10),)


@pytest.mark.parametrize(
    ("text", "problem"),
    [("{", "is no fence"), ('{"schemaVersion": 1}', "is no fence"), ('{"schemaVersion": 9}', "reads up to 1")],
)
def test_damaged_fence_is_named_and_never_ignored(store: storage.ObjectStore, text: str, problem: str) -> None:
    store.put("fence.json", text.encode())
    with pytest.raises(errors.DataCorruptError, match=problem):
        checkpoint_fence.FenceKeeper(store).take(1, "a")


@pytest.mark.parametrize("place", range(0, 200, 7))
def test_fence_that_is_read_with_a_wrong_byte_is_read_again(
    store: storage.ObjectStore, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper, read, times = began(store, 20), type(store).get, []

    def get(own: storage.ObjectStore, key: str) -> bytes:
        data = bytearray(read(own, key))
        if key == "fence.json" and len(times) < whole_reads.MOST_READS - 1:
            times.append(key)
            data[place % len(data)] ^= 0x10
        return bytes(data)

    monkeypatch.setattr(type(store), "get", get)
    assert keeper.read() == keeper.held
    assert len(times) == whole_reads.MOST_READS - 1


@pytest.mark.parametrize("s3_server", ["moto", "versitygw"], indirect=True)
def test_servers_keep_the_conditions(s3_bucket: str) -> None:
    store = storage.open_store(f"s3://{s3_bucket}/run/checkpoints")
    old, new = began(store, 0), began(store, 4, "b")
    assert new.read().generation == 2
    with pytest.raises(errors.FencedError):
        old.branch(2)
