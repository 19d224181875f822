"""Where packing takes images from: the interface of every kind of source.

A source is listed once, as a stream, and then read in another order by other processes. So it holds what finds an image
again, never the images or their names.
"""

import abc
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

MAX_IGNORED_NAMES = 1000
"""Names of passed-over files that a source keeps; beyond it only counts them."""


class Entry(NamedTuple):
    """One image of a source.

    Attributes:
        key: its name in the source, unique, such as `cats/001.jpg` or `x_train[7]`; it becomes image/key.
        class_name: printable, not empty.
        given_split: the split that the source puts it in, one of `dataset.SPLITS`, or None when packing may choose.
        group: images of one group never part into several splits; None when it belongs to none.
        locator: by what `Source.read` finds it, in any process that holds a copy of the source.
    """

    key: str
    class_name: str
    given_split: str | None
    group: str | None
    locator: str


class Source(abc.ABC):
    """Labelled images. It can be pickled, and `read` may be called in several processes and threads at once.

    Attributes:
        name: default name of the data set.
        class_names: in label order, to be read when `entries` is exhausted; None means the names listed, sorted by code
            point.
        ignored: names of files that are no images and were left out, the first `MAX_IGNORED_NAMES`; complete when
            `entries` is exhausted, as is `ignored_count`.
        ignored_count: of all such files.
        concurrent_reads: calls of `read` that one process does well to have under way at once: more than one where each
            waits for a network.
    """

    name: str
    class_names: tuple[str, ...] | None = None
    ignored: tuple[str, ...] = ()
    ignored_count: int = 0
    concurrent_reads: int = 1

    @abc.abstractmethod
    def entries(self) -> Iterator[Entry]:
        """Yield every image, in an order that depends on the source alone, without holding them all.

        Raises:
            errors.ConfigError: the source breaks a rule; the message names the file, line or array and the rule.
        """

    @abc.abstractmethod
    def read(self, locator: str) -> bytes | npt.NDArray[np.uint8]:
        """Return an image file's bytes, or the pixels, (height, width, 1 or 3) uint8, of an image that is an array.

        Raises:
            errors.ConfigError: it cannot be read; the message names the place and the rule.
        """

    def describe(self, locator: str) -> str:
        """Return where an image lies, such as its quoted path: the beginning of a sentence on what is wrong with it."""
        return repr(locator)

    def explain_duplicate(self, key: str) -> str:
        """Return the sentence that refuses a key listed twice."""
        return f"{key!r} must be listed once in the source, and is there twice."
