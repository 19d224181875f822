"""Sources of any number of generated images, for the benchmarks of packing; their processes import this module."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from imagetrain_trainer.data import sources

CLASSES = 100
_SIDE = 4


class GeneratedSource(sources.Source):
    """Tiny gray images, each of its own pixels, in `CLASSES` classes, and in groups when `group_size` is given."""

    def __init__(self, count: int, group_size: int | None = None) -> None:
        self.name = "generated"
        self._count = count
        self._group_size = group_size

    def entries(self) -> Iterator[sources.Entry]:
        """Yield them."""
        for number in range(self._count):
            name = f"class {number * 7919 % CLASSES:02}"
            group = None if self._group_size is None else f"g{number // self._group_size}"
            yield sources.Entry(f"{name}/{number:08}.png", name, None, group, f"{number}")

    def read(self, locator: str) -> bytes | npt.NDArray[np.uint8]:
        """Return an image's pixels: its number, and noise made of it."""
        pixels = np.full(_SIDE * _SIDE, int(locator) % 251, np.uint8)
        pixels[:8] = np.frombuffer(int(locator).to_bytes(8, "little"), np.uint8)
        return pixels.reshape(_SIDE, _SIDE, 1)
