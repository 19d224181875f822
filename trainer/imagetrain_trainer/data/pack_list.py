"""The work list of a pack: every image of the source, once listed, in an SQLite file instead of memory.

The file is written under another name and renamed when it is complete, so a killed listing leaves nothing that could be
mistaken for a list. From then on it is only read.

    entries      one row an image, in the order of the source
    sequence_N   (n, id): the images of split N in the order of their shards, from n = 0 on
    facts        one JSON document: `ListFacts`, and the label of each class number

An image costs about 150 bytes of disk; memory does not grow with their number.
"""

import contextlib
import dataclasses
import json
import pathlib
import sqlite3
from collections.abc import Mapping
from typing import NamedTuple

from imagetrain_trainer.data import dataset, pack_database, pack_listing, pack_partition, sources

_ENTRIES = (
    "CREATE TABLE entries (id INTEGER PRIMARY KEY, key BLOB NOT NULL, class INTEGER NOT NULL, given INTEGER, grp BLOB, "
    "locator BLOB, split_hash INTEGER NOT NULL, order_hash INTEGER NOT NULL)"
)
_INSERT = "INSERT INTO entries (key, class, given, grp, locator, split_hash, order_hash) VALUES (?, ?, ?, ?, ?, ?, ?)"


class Row(NamedTuple):
    """One image to pack.

    Attributes:
        position: in the order of all splits, one behind the other.
        key: becomes image/key.
        label: index into the class names.
        locator: for `sources.Source.read`.
    """

    position: int
    key: str
    label: int
    locator: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ListFacts:
    """What is known once a source is listed and divided.

    Attributes:
        digest: of all entries in the source's order, and of the class names.
        class_names: in label order.
        counts: images of each split, in the order of `dataset.SPLITS`.
        given: splits that the source gave.
        filled: splits that packing chose images for.
        ratios: asked for, in the order of `dataset.SPLITS`.
        seed: of the split and the order.
    """

    digest: str
    class_names: tuple[str, ...]
    counts: tuple[int, ...]
    given: tuple[str, ...]
    filled: tuple[str, ...]
    ratios: tuple[float, ...]
    seed: int

    def fits(self, digest: str, ratios: Mapping[str, float], seed: int) -> bool:
        """Tell whether a source of this digest would be divided and ordered just so."""
        return (self.digest, self.ratios, self.seed) == (digest, _as_tuple(ratios), seed)


class WorkList:
    """Reads a finished list."""

    def __init__(self, path: pathlib.Path) -> None:
        """Open it.

        Raises:
            errors.ConfigError: the file is damaged.
        """
        self._path = path
        with pack_database.translate(path):
            self._database = pack_database.open_finished(path)
            try:
                document = json.loads(self._database.execute("SELECT document FROM facts").fetchone()[0])
            except BaseException:
                self._database.close()
                raise
        self._labels: list[int] = document["labels"]
        self.facts = ListFacts(
            digest=document["digest"],
            class_names=tuple(document["class_names"]),
            counts=tuple(document["counts"]),
            given=tuple(document["given"]),
            filled=tuple(document["filled"]),
            ratios=tuple(document["ratios"]),
            seed=document["seed"],
        )
        starts = [sum(self.facts.counts[:index]) for index in range(len(self.facts.counts))]
        self.ranges = {
            name: range(start, start + count)
            for name, start, count in zip(dataset.SPLITS, starts, self.facts.counts, strict=True)
        }

    def rows(self, start: int, stop: int) -> list[Row]:
        """Return the images at the positions from start to stop, which lie in one split."""
        split = self.split_of(start)
        first = self.ranges[split].start
        query = (
            f"SELECT s.n, e.key, e.class, e.locator FROM sequence_{dataset.SPLITS.index(split)} s "  # noqa: S608 - a number
            "JOIN entries e ON e.id = s.id WHERE s.n >= ? AND s.n < ? ORDER BY s.n"
        )
        with pack_database.translate(self._path):
            found = self._database.execute(query, (start - first, stop - first)).fetchall()
        decode = pack_database.decode_text
        return [
            Row(first + n, decode(key), self._labels[number], decode(key if locator is None else locator))
            for n, key, number, locator in found
        ]

    def row(self, position: int) -> Row:
        """Return the image at a position."""
        return self.rows(position, position + 1)[0]

    def split_of(self, position: int) -> str:
        """Return the split that a position lies in."""
        return next(name for name, positions in self.ranges.items() if position in positions)

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def write_list(
    path: pathlib.Path,
    source: sources.Source,
    ratios: Mapping[str, float],
    seed: int,
    on_listed: pack_listing.OnListed,
) -> None:
    """List a source, divide it and set its order.

    Args:
        path: of the file to write; replaced when it exists.
        source: to be listed.
        ratios: of the splits, by name.
        seed: of the split and the order.
        on_listed: called now and then with the number of images found.

    Raises:
        errors.ConfigError: the source breaks a rule.
        errors.DiskFullError: no space is left for the list.
    """
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    with pack_database.translate(path), contextlib.closing(pack_database.open_scratch(partial)) as database:
        _fill(database, source, ratios, seed, on_listed)
    pack_database.sync(partial)
    partial.replace(path)


def _fill(
    database: sqlite3.Connection,
    source: sources.Source,
    ratios: Mapping[str, float],
    seed: int,
    on_listed: pack_listing.OnListed,
) -> None:
    listing = pack_listing.Listing(source, on_listed)
    database.execute(_ENTRIES)
    database.executemany(_INSERT, listing.rows(seed))
    digest, names = listing.finish()
    given = tuple(name for name in dataset.SPLITS if name in listing.given)
    partition = pack_partition.Partition(
        database, source, classes=tuple(listing.classes), ratios=ratios, given=given, seed=seed
    )
    filled = partition.assign(names, has_groups=listing.has_groups)
    counts = partition.arrange()
    facts = ListFacts(
        digest=digest,
        class_names=names,
        counts=counts,
        given=given,
        filled=filled,
        ratios=_as_tuple(ratios),
        seed=seed,
    )
    by_name = {name: label for label, name in enumerate(names)}
    document = dataclasses.asdict(facts) | {"labels": [by_name[name] for name in listing.classes]}
    database.execute("CREATE TABLE facts (document TEXT)")
    database.execute("INSERT INTO facts VALUES (?)", (json.dumps(document),))
    database.commit()


def digest_source(source: sources.Source, on_listed: pack_listing.OnListed) -> str:
    """List a source again, and return the digest that `ListFacts` holds when nothing has changed."""
    listing = pack_listing.Listing(source, on_listed)
    for _ in listing.entries():
        pass
    return listing.finish()[0]


def _as_tuple(ratios: Mapping[str, float]) -> tuple[float, ...]:
    return tuple(float(ratios[name]) for name in dataset.SPLITS)
