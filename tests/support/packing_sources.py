"""Sources made of tables, for the tests of packing; worker processes import this module too."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from imagetrain_trainer import errors
from imagetrain_trainer.data import sources


class TableSource(sources.Source):
    """Gives the entries it was made with. A locator holds what its image shows; `bad` in it makes it unreadable."""

    def __init__(self, entries: Sequence[sources.Entry], class_names: tuple[str, ...] | None = None) -> None:
        self.name = "table"
        self.class_names = class_names
        self._entries = list(entries)

    def entries(self) -> Iterator[sources.Entry]:
        """Yield them."""
        yield from self._entries

    def read(self, locator: str) -> bytes | npt.NDArray[np.uint8]:
        """Return 4 x 4 gray pixels, equal for equal locators."""
        if "lost" in locator:
            raise errors.StorageUnavailableError("s3://photos/lost cannot be read. Try again.")
        if "bad" in locator:
            return b"no image"
        return np.frombuffer(hashlib.sha256(locator.encode()).digest()[:16], np.uint8).reshape(4, 4, 1)


class FaultySource(TableSource):
    """Has a bug in its `read`."""

    def read(self, locator: str) -> bytes | npt.NDArray[np.uint8]:
        """Fail as no image can."""
        raise ZeroDivisionError(locator)


def make_entries(*counts: int, given: str | None = None, prefix: str = "") -> list[sources.Entry]:
    """Make as many entries of the classes a, b, c, ... as the counts say, each with an image of its own."""
    return [
        sources.Entry(f"{prefix}{name}/{number}", name, given, None, f"{prefix}{name}/{number}")
        for name, count in zip("abcdefgh", counts, strict=False)
        for number in range(count)
    ]
