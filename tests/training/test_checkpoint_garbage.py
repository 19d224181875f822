import pytest

from imagetrain_trainer.storage import store as storage
from imagetrain_trainer.training import checkpoint_fence, checkpoint_garbage, checkpoint_manifest

Place = checkpoint_manifest.Place
HOUR = 3600.0
NOW = 1e9
FENCE = checkpoint_fence.Fence(generation=3, branches=(checkpoint_fence.Branch(3, 20),))


def objects(*places: tuple[int, int, str, float]) -> list[storage.ObjectInfo]:
    """Return the objects of checkpoints: step, generation, `whole` or `half`, age in seconds."""
    found = [storage.ObjectInfo("fence.json", 1, None, NOW)]
    for step, generation, kind, age in places:
        folder = Place(step, generation).folder
        found.append(storage.ObjectInfo(f"{folder}/state-00000-of-00001.safetensors", 9, None, NOW - age))
        if kind == "whole":
            found.append(storage.ObjectInfo(f"{folder}/manifest.json", 9, None, NOW - age))
    return found


def folders(garbage: checkpoint_garbage.Garbage) -> set[tuple[int, int]]:
    places = {checkpoint_manifest.parse_place(key.rpartition("/")[0]) for key in garbage.manifests + garbage.others}
    return {(place.step, place.generation) for place in places if place}


@pytest.mark.parametrize(
    ("present", "best_step", "expected"),
    [
        ([(10, 3, "whole", 0), (20, 3, "whole", 0)], None, set()),
        ([(21, 3, "whole", 0), (22, 3, "whole", 0), (23, 3, "whole", 0)], None, {(21, 3)}),
        ([(21, 3, "whole", 0), (22, 3, "whole", 0), (23, 3, "whole", 0)], 21, set()),
        ([(10, 2, "whole", 0), (20, 2, "whole", 0), (30, 2, "whole", 0)], None, {(30, 2)}),  # a branch given up
        ([(20, 2, "whole", 0), (20, 3, "whole", 0), (30, 3, "whole", 0)], None, {(20, 2)}),  # written once more
        ([(30, 3, "half", 0), (20, 3, "whole", 0)], None, set()),  # being written
        ([(30, 3, "half", HOUR + 1), (20, 3, "whole", 0)], None, {(30, 3)}),  # aborted
        ([(30, 2, "half", 1), (20, 3, "whole", 0)], None, set()),  # requests of a killed process may be under way
        ([(30, 2, "half", 61), (20, 3, "whole", 0)], None, {(30, 2)}),
        ([(30, 4, "half", 2 * HOUR), (30, 4, "whole", 0)], None, set()),  # of whoever has taken over
        ([(5, 0, "whole", 0), (10, 0, "half", 61), (19, 3, "whole", 0), (20, 3, "whole", 0)], None, {(5, 0), (10, 0)}),
    ],
)
def test_what_may_go(
    present: list[tuple[int, int, str, float]], best_step: int | None, expected: set[tuple[int, int]]
) -> None:
    garbage = checkpoint_garbage.plan_garbage(objects(*present), FENCE, keep=2, best_step=best_step)
    assert folders(garbage) == expected
    assert all(key.endswith("/manifest.json") for key in garbage.manifests)
    assert not any(key.endswith("/manifest.json") for key in garbage.others)


def test_ages_are_told_by_the_store_s_clock_alone() -> None:
    shifted = [
        storage.ObjectInfo(info.key, info.size_bytes, None, info.modified_at - 1e8)
        for info in objects((30, 3, "half", 0), (20, 3, "whole", 0))
    ]
    assert not folders(checkpoint_garbage.plan_garbage(shifted, FENCE, keep=2, best_step=None))
