"""What is wrong with a data set: every defect counted, the first of each kind kept in words. Pure."""

import dataclasses
from collections.abc import Iterable
from typing import Any

MOST_NAMED = 20  # of each kind; what is beyond is counted
KINDS = ("description", "missing", "extra", "size", "checksum", "index", "record", "label", "image", "counts")
"""In the order in which they are told. docs/command-line.md says what each means."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """One broken rule and its place.

    Attributes:
        kind: one of KINDS.
        key: of the object.
        rule: what it must be; follows the place in a sentence.
        record: number of the record in its shard, from 0; None when the defect is the whole object's.
        offset: first byte of that record's frame in its shard.
    """

    kind: str
    key: str
    rule: str
    record: int | None = None
    offset: int | None = None

    def __str__(self) -> str:
        place = self.key if self.record is None else f"{self.key} record {self.record} at offset {self.offset}"
        return f"{place} {self.rule}"

    def as_json(self) -> dict[str, Any]:
        """Return a document for `json.dumps`."""
        document: dict[str, Any] = {"key": self.key, "rule": self.rule}
        return document if self.record is None else {**document, "record": self.record, "offset": self.offset}


class Defects:
    """A collection that stays small however much is broken. Not thread-safe: each thread fills one, then they merge."""

    def __init__(self) -> None:
        self._named: dict[str, list[Defect]] = {kind: [] for kind in KINDS}
        self._counts = dict.fromkeys(KINDS, 0)

    def add(self, defect: Defect) -> None:
        """Count a defect, and keep it if it is among the first of its kind."""
        self._counts[defect.kind] += 1
        if len(self._named[defect.kind]) < MOST_NAMED:
            self._named[defect.kind].append(defect)

    def merge(self, others: Iterable["Defects"]) -> None:
        """Add what other collections hold, in their order."""
        for other in others:
            for kind in KINDS:
                self._counts[kind] += other.count(kind)
                self._named[kind].extend(other.named(kind)[: MOST_NAMED - len(self._named[kind])])

    def named(self, kind: str) -> tuple[Defect, ...]:
        """Return the first defects of a kind."""
        return tuple(self._named[kind])

    def count(self, kind: str) -> int:
        """Return the number of defects of a kind."""
        return self._counts[kind]

    @property
    def total(self) -> int:
        """Number of defects of all kinds."""
        return sum(self._counts.values())

    def as_json(self) -> dict[str, Any]:
        """Return, for each kind that occurs, its count and its first defects."""
        return {
            kind: {"count": self._counts[kind], "first": [defect.as_json() for defect in self._named[kind]]}
            for kind in KINDS
            if self._counts[kind]
        }
