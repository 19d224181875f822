"""Equal images in a pack: which are twice in a split, which in two splits, and which under two labels."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable

MAX_EXAMPLES = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """Two images with equal pixels.

    Attributes:
        first: key.
        second: key.
        first_place: split and class of the first, as text; likewise of the second.
        second_place: text.
    """

    first: str
    first_place: str
    second: str
    second_place: str

    def __str__(self) -> str:
        return f"{self.first!r} ({self.first_place}) and {self.second!r} ({self.second_place})"


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


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where an image is: its key, split and class name."""

    key: str
    split: str
    class_name: str

    def __str__(self) -> str:
        return f"{self.split}, {self.class_name}"


def find_duplicates(hashes: Iterable[tuple[bytes, int, int]], locate: Callable[[int], Place]) -> DuplicateReport:
    """Compare all images.

    Args:
        hashes: (digest, position, label), sorted by digest and position.
        locate: returns the place of a position; asked for duplicates alone.
    """
    copies = across_splits = across_classes = 0
    pairs: list[Pair] = []
    split_pairs: list[Pair] = []
    class_pairs: list[Pair] = []
    for _, equal in itertools.groupby(hashes, key=lambda row: row[0]):
        positions = [position for _, position, _ in equal]
        if len(positions) == 1:
            continue
        copies += len(positions) - 1
        places = [locate(position) for position in positions]
        other_split = next((place for place in places if place.split != places[0].split), None)
        other_class = next((place for place in places if place.class_name != places[0].class_name), None)
        across_splits += other_split is not None
        across_classes += other_class is not None
        for other, examples in ((other_split, split_pairs), (other_class, class_pairs)):
            if other is not None:
                _note(examples, places[0], other)
        if other_split is None and other_class is None:
            _note(pairs, places[0], places[1])
    return DuplicateReport(
        images=copies,
        across_splits=across_splits,
        across_classes=across_classes,
        pairs=tuple(pairs),
        split_pairs=tuple(split_pairs),
        class_pairs=tuple(class_pairs),
    )


def _note(examples: list[Pair], first: Place, second: Place) -> None:
    if len(examples) < MAX_EXAMPLES:
        examples.append(Pair(first.key, str(first), second.key, str(second)))
