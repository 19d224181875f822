"""Arrays in one buffer that has the bytes of the safetensors files to be: a snapshot is one copy. No TensorFlow.

The format (8 bytes of header length, a JSON header, the data) is that of huggingface/safetensors; its library reads
what is written here. It is not used for writing, because it would need a second copy of the whole state.
"""

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy import typing as npt

from imagetrain_trainer.training import checkpoint_manifest

ALIGNMENT = 64  # of the data behind a header: a cache line
_DTYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
}

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class ArraySpec:
    """Type and shape of one array."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of its data."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


@dataclasses.dataclass(frozen=True, slots=True)
class FileLayout:
    """One safetensors file of the state, as a stretch of the buffer.

    Attributes:
        key: its name.
        start, end: the stretch.
        header: its first bytes.
        offsets: where in the buffer each array begins.
    """

    key: str
    start: int
    end: int
    header: bytes
    offsets: dict[str, int]


class StateLayout:
    """Where each array lies; the same on every worker, for it depends on names, types and shapes alone."""

    def __init__(self, specs: Mapping[str, ArraySpec], shards: int) -> None:
        """Lay the arrays out in the order of their names.

        Args:
            specs: the arrays.
            shards: files; neighbours go into one, about equally many bytes each.
        """
        self.specs = dict(sorted(specs.items()))
        self.files: list[FileLayout] = []
        start = 0
        sizes = {name: spec.size_bytes for name, spec in self.specs.items()}
        for index, members in enumerate(plan_shares(sizes, shards)):
            key = checkpoint_manifest.state_key(index, shards)
            file = _lay_out(key, start, {name: self.specs[name] for name in members})
            self.files.append(file)
            start = file.end
        self.size_bytes = start


class StateBuffer:
    """Memory for one state, written over by each snapshot."""

    def __init__(self, layout: StateLayout) -> None:
        self.layout = layout
        self._bytes = np.empty(layout.size_bytes, np.uint8)
        self._bytes.fill(0)  # the kernel gives the memory now, and not while a save holds training up
        self._views: dict[str, npt.NDArray[Any]] = {}
        for file in layout.files:
            self._bytes[file.start : file.start + len(file.header)] = np.frombuffer(file.header, np.uint8)
            for name, offset in file.offsets.items():
                spec = layout.specs[name]
                data = self._bytes[offset : offset + spec.size_bytes]
                self._views[name] = data.view(spec.dtype).reshape(spec.shape)

    def fill(self, arrays: Arrays) -> None:
        """Copy the arrays in, one at a time."""
        for name, view in self._views.items():
            np.copyto(view, arrays[name], casting="no")

    def files(self) -> Iterator[memoryview]:
        """Yield the bytes of each file; they are the buffer's own."""
        whole = self._bytes.data
        for file in self.layout.files:
            yield whole[file.start : file.end]


def describe_arrays(arrays: Arrays) -> dict[str, ArraySpec]:
    """Return types and shapes of arrays."""
    return {name: ArraySpec(array.dtype, tuple(array.shape)) for name, array in arrays.items()}


def plan_shares(sizes: Mapping[str, int], shares: int) -> list[list[str]]:
    """Cut names, in their order, into `shares` runs of about equally many bytes."""
    total = sum(sizes.values())
    cut: list[list[str]] = [[] for _ in range(shares)]
    before = 0
    for name, size in sizes.items():
        middle = before + size / 2
        cut[min(shares - 1, int(middle * shares / total) if total else 0)].append(name)
        before += size
    return cut


def _lay_out(key: str, start: int, specs: Mapping[str, ArraySpec]) -> FileLayout:
    starts = list(itertools.accumulate((spec.size_bytes for spec in specs.values()), initial=0))
    entries = {
        name: {"dtype": _dtype_name(spec.dtype), "shape": list(spec.shape), "data_offsets": [begin, end]}
        for (name, spec), begin, end in zip(specs.items(), starts, starts[1:], strict=False)
    }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    header = len(text).to_bytes(8, "little") + text
    first = start + len(header)
    offsets = {name: first + begin for name, begin in zip(specs, starts, strict=False)}
    return FileLayout(key, start, first + starts[-1], header, offsets)


def _dtype_name(dtype: np.dtype[Any]) -> str:
    try:
        return _DTYPES[dtype.name]
    except KeyError:
        raise ValueError(f"a variable's type must be one of {', '.join(_DTYPES)}, got {dtype.name}.") from None
