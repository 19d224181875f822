"""Listing a source: its entries checked, digested and numbered, as rows for the work list."""

import hashlib
from collections.abc import Callable, Iterator

from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset, pack_database, sources, splits

_REPORT_EVERY = 10_000
_DIGEST_BATCH = 1000

OnListed = Callable[[int], None]
ListedRow = tuple[bytes, int, int | None, bytes | None, bytes | None, int, int]
"""key, class number, number of the given split, group, locator when it is not the key, split hash, order hash."""


class Listing:
    """One walk over a source's entries.

    Attributes:
        classes: number of each class name, in the order of their first images.
        given: splits that some entries give.
        has_groups: whether an entry has a group.
    """

    def __init__(self, source: sources.Source, on_listed: OnListed) -> None:
        self._source = source
        self._on_listed = on_listed
        self._hash = hashlib.sha256()
        self.classes: dict[str, int] = {}
        self.given: set[str] = set()
        self.has_groups = False

    def entries(self) -> Iterator[sources.Entry]:
        """Yield the source's entries, checked and digested. Raises `errors.ConfigError`."""
        batch: list[str] = []
        count = 0
        for count, entry in enumerate(self._source.entries(), start=1):
            if entry.class_name not in self.classes:
                self._add_class(entry)
            if entry.given_split is not None and entry.given_split not in self.given:
                self._add_given(entry)
            batch.append(repr(tuple(entry)))
            if len(batch) == _DIGEST_BATCH:
                self._hash.update("".join(batch).encode())
                batch.clear()
            if count % _REPORT_EVERY == 0:
                self._on_listed(count)
            yield entry
        self._hash.update("".join(batch).encode())
        self._on_listed(count)
        if not count:
            raise errors.ConfigError(f"source {self._source.name!r} must hold at least one image.")

    def rows(self, seed: int) -> Iterator[ListedRow]:
        """Yield the entries as rows of the work list."""
        encode = pack_database.encode_text
        for entry in self.entries():
            self.has_groups = self.has_groups or entry.group is not None
            yield (
                encode(entry.key),
                self.classes[entry.class_name],
                None if entry.given_split is None else dataset.SPLITS.index(entry.given_split),
                None if entry.group is None else encode(entry.group),
                None if entry.locator == entry.key else encode(entry.locator),
                pack_database.encode_hash(splits.split_hash(seed, entry.key)),
                pack_database.encode_hash(splits.order_hash(seed, entry.key)),
            )

    def finish(self) -> tuple[str, tuple[str, ...]]:
        """Return the digest of the entries and the class names, and these names in label order, once all are listed."""
        stated = self._source.class_names
        names = tuple(sorted(self.classes)) if stated is None else stated
        unknown = sorted(set(self.classes) - set(names))
        if unknown:
            raise errors.ConfigError(
                f"source {self._source.name!r} must hold no other classes than {list(names)!r}, got {unknown[0]!r}."
            )
        self._hash.update(repr(names).encode())
        return self._hash.hexdigest(), names

    def _add_class(self, entry: sources.Entry) -> None:
        name = entry.class_name
        if not name or not name.isprintable():
            raise errors.ConfigError(f"class of {entry.key!r} must have a printable name, got {name!r}.")
        self.classes[name] = len(self.classes)

    def _add_given(self, entry: sources.Entry) -> None:
        assert entry.given_split is not None
        if entry.given_split not in dataset.SPLITS:
            raise errors.ConfigError(
                f"split of {entry.key!r} must be one of {', '.join(dataset.SPLITS)}, got {entry.given_split!r}."
            )
        self.given.add(entry.given_split)
