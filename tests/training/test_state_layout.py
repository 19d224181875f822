import numpy as np
import pytest
import safetensors.numpy

from imagetrain_trainer.training import state_layout

ARRAYS = {
    "weights": np.arange(6, dtype=np.float32).reshape(3, 2),
    "odd": np.arange(3, dtype=np.int8),  # what follows is not aligned
    "seeds": np.array([1, 2], np.uint32),
    "step": np.array(7),
    "flags": np.array([True, False]),
    "none": np.zeros((0, 3), np.float16),
    "double": np.arange(5.0),
}


def filled(shards: int) -> state_layout.StateBuffer:
    buffer = state_layout.StateBuffer(state_layout.StateLayout(state_layout.describe_arrays(ARRAYS), shards))
    buffer.fill(ARRAYS)
    return buffer


@pytest.mark.parametrize("shards", [1, 2, 3, 9])  # nine: more than arrays
def test_the_library_of_the_format_reads_what_was_laid_out(shards: int) -> None:
    found = {}
    for data in filled(shards).files():
        found.update(safetensors.numpy.load(bytes(data)))
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)


def test_buffer_is_written_over_by_the_next_state() -> None:
    buffer = filled(1)
    buffer.fill({name: np.zeros_like(array) for name, array in ARRAYS.items()})
    (data,) = buffer.files()
    assert not safetensors.numpy.load(bytes(data))["weights"].any()


def test_array_of_another_type_or_shape_is_refused() -> None:
    buffer = filled(1)
    with pytest.raises(TypeError):
        buffer.fill({**ARRAYS, "weights": np.zeros((3, 2))})
    with pytest.raises(ValueError, match="broadcast"):
        buffer.fill({**ARRAYS, "weights": np.zeros((2, 2), np.float32)})


def test_type_that_the_format_lacks_is_named() -> None:
    with pytest.raises(ValueError, match="got complex128"):
        state_layout.StateLayout(state_layout.describe_arrays({"z": np.zeros(1, np.complex128)}), 1)


@pytest.mark.parametrize(
    ("sizes", "shares", "expected"),
    [
        ([1, 1, 1, 1], 2, [["a", "b"], ["c", "d"]]),
        ([8, 1, 1, 1], 2, [["a"], ["b", "c", "d"]]),
        ([1, 1], 3, [["a"], [], ["b"]]),
        ([0, 0], 2, [["a", "b"], []]),
    ],
)
def test_shares_are_runs_of_about_equally_many_bytes(sizes: list[int], shares: int, expected: list[list[str]]) -> None:
    assert state_layout.plan_shares(dict(zip("abcd", sizes, strict=False)), shares) == expected
