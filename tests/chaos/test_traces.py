import json
import pathlib

import pytest

from imagetrain_chaos import traces


def write(folder: pathlib.Path, generation: int, rank: int, steps: dict[int, list[int]], rest: str = "") -> None:
    path = folder / traces.FOLDER
    path.mkdir(exist_ok=True)
    lines = [json.dumps({"step": step, "images": images}) + "\n" for step, images in steps.items()]
    (path / traces.build_name(generation, rank)).write_text("".join(lines) + rest)


def test_newest_generation_that_did_a_step_counts_and_a_step_cut_off_does_not(tmp_path: pathlib.Path) -> None:
    write(tmp_path, 1, 0, {0: [1], 1: [3], 2: [5]})
    write(tmp_path, 1, 1, {0: [2], 1: [4]}, rest='{"step": 2, "ima')
    write(tmp_path, 2, 0, {1: [3, 4], 2: [5, 6]})
    found = traces.read(tmp_path)
    assert found.sizes() == [2, 1]
    assert not found.find_faults()
    assert found.trained() == {0: (1, 2), 1: (3, 4), 2: (5, 6)}
    assert traces.count_losses(found.trained(), 3, 6) == traces.Losses(lost=0, repeated=0)


@pytest.mark.parametrize(
    ("first", "second", "fault"),
    [
        ({0: [1], 1: [2]}, {3: [4]}, "generation 2 began with step 3, and only 2 were done"),
        ({0: [1], 2: [2]}, {3: [4]}, "generation 1 left steps out between 0 and 2"),
    ],
)
def test_gap_between_or_within_generations_is_a_fault(tmp_path: pathlib.Path, first, second, fault: str) -> None:
    write(tmp_path, 1, 0, first)
    write(tmp_path, 2, 0, second)
    assert traces.read(tmp_path).find_faults() == [fault]


def test_samples_are_counted_an_epoch() -> None:
    trained = {0: (1, 2), 1: (3, 4), 2: (1, 2), 3: (2, 3)}
    assert traces.count_losses(trained, 2, 4) == traces.Losses(lost=1, repeated=1)


def test_step_that_one_process_did_twice_is_refused(tmp_path: pathlib.Path) -> None:
    write(tmp_path, 1, 0, {0: [1]}, rest='{"step": 0, "images": [2]}\n')
    with pytest.raises(ValueError, match="each step once"):
        traces.read(tmp_path)
