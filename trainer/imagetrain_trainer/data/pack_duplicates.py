"""Equal images in a pack: which are twice in a split, which in two splits, and which under two labels."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

MAX_EXAMPLES = 1000


class Place(NamedTuple):
    """Where an image is: its key, split and class name."""

    key: str
    split: str
    class_name: str


class Pair(NamedTuple):
    """Two images with equal pixels."""

    first: Place
    second: Place

    def __str__(self) -> str:
        return " and ".join(f"{place.key!r} ({place.split}, {place.class_name})" for place in self)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateReport:
    """What was found; each list of examples ends at `MAX_EXAMPLES`.

    Attributes:
        images: copies beyond the first of each image.
        across_splits: images that are in more than one split.
        across_classes: images that have more than one label.
        pairs: examples within one split and class.
        split_pairs: examples of the same image in two splits.
        class_pairs: examples of the same image with two labels.
    """

    images: int
    across_splits: int
    across_classes: int
    pairs: tuple[Pair, ...] = ()
    split_pairs: tuple[Pair, ...] = ()
    class_pairs: tuple[Pair, ...] = ()


class Locator(Protocol):
    """Tells where images are."""

    def split_of(self, position: int) -> str:
        """Return the split of a position."""

    def place_of(self, position: int) -> Place:
        """Return everything about a position; asked for examples alone."""


def find_duplicates(hashes: Iterable[tuple[bytes, int, int]], locator: Locator) -> DuplicateReport:
    """Compare all images, in memory for the examples alone.

    Args:
        hashes: (digest, position, label), sorted by digest and position.
        locator: of the positions.
    """
    finder = _Finder(locator)
    for _, equal in itertools.groupby(hashes, key=lambda row: row[0]):
        finder.take(equal)
    return DuplicateReport(
        images=finder.copies,
        across_splits=finder.across_splits,
        across_classes=finder.across_classes,
        pairs=tuple(finder.pairs),
        split_pairs=tuple(finder.split_pairs),
        class_pairs=tuple(finder.class_pairs),
    )


class _Finder:
    def __init__(self, locator: Locator) -> None:
        self._locator = locator
        self.copies = self.across_splits = self.across_classes = 0
        self.pairs: list[Pair] = []
        self.split_pairs: list[Pair] = []
        self.class_pairs: list[Pair] = []

    def take(self, equal: Iterator[tuple[bytes, int, int]]) -> None:
        """Count the images of one digest."""
        _, first, first_label = next(equal)
        split = self._locator.split_of(first)
        again = other_split = other_class = None
        for _, position, label in equal:
            self.copies += 1
            again = position if again is None else again
            if other_split is None and self._locator.split_of(position) != split:
                other_split = position
            if other_class is None and label != first_label:
                other_class = position
        self.across_splits += other_split is not None
        self.across_classes += other_class is not None
        self._note(self.split_pairs, first, other_split)
        self._note(self.class_pairs, first, other_class)
        if other_split is None and other_class is None:
            self._note(self.pairs, first, again)

    def _note(self, examples: list[Pair], first: int, second: int | None) -> None:
        if second is not None and len(examples) < MAX_EXAMPLES:
            examples.append(Pair(*map(self._locator.place_of, (first, second))))
