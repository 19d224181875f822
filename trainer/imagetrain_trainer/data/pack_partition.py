"""Dividing the images of a work list among the splits, and setting their order, by sorting in the SQLite file.

What goes where is decided by `splits`; here it is carried out with bounded memory. Sorts that do not fit spill into
temporary files, where SQLite puts them (`SQLITE_TMPDIR`, by default /var/tmp).
"""

import itertools
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset, pack_database, sources, splits

_BATCH = 10_000
# An image without a group, in a source that has groups, is a group of its own; no group's name begins with this byte.
_OWN_GROUP_MARK = b"\0"


_Row = TypeVar("_Row", bound=tuple[object, ...])


class Partition:
    """Divides the entries of one open work list; `assign`, then `arrange`."""

    def __init__(
        self,
        database: sqlite3.Connection,
        source: sources.Source,
        *,
        classes: tuple[str, ...],
        ratios: Mapping[str, float],
        given: tuple[str, ...],
        seed: int,
    ) -> None:
        """Prepare.

        Args:
            database: with its table of entries filled.
            source: words its error about a key that is listed twice.
            classes: names by class number.
            ratios: of all splits, by name.
            given: splits that some entries give.
            seed: of the split.
        """
        self._database = database
        self._source = source
        self._classes = classes
        self._wanted = splits.choose_wanted(ratios, given)
        self._seed = seed
        database.create_function("own_group", 1, lambda key: _OWN_GROUP_MARK + key, deterministic=True)
        database.create_function(
            "group_hash",
            1,
            lambda group: pack_database.encode_hash(splits.group_hash(seed, pack_database.decode_text(group))),
            deterministic=True,
        )

    def assign(self, class_names: tuple[str, ...], *, has_groups: bool) -> tuple[str, ...]:
        """Choose a split for every image.

        Args:
            class_names: in label order.
            has_groups: whether any entry has a group.

        Returns:
            The splits that were filled; none when the source gives a split to every image.

        Raises:
            errors.ConfigError: a class is too small, or a group is given to two splits.
        """
        self._database.execute("CREATE TABLE assigned (order_hash INTEGER, split INTEGER, id INTEGER)")
        if has_groups:
            is_filling = self._assign_groups(class_names)
        else:
            self._database.execute(
                "INSERT INTO assigned SELECT order_hash, given, id FROM entries WHERE given IS NOT NULL"
            )
            is_filling = self._assign_images(class_names)
        if not is_filling:
            splits.check_classes(class_names, {}, 0, unit="images")
        return tuple(self._wanted) if is_filling else ()

    def arrange(self) -> tuple[int, ...]:
        """Write the order of each split into its own table, and return their sizes.

        Raises:
            errors.ConfigError: two images have the same key.
        """
        for index in range(len(dataset.SPLITS)):
            self._database.execute(f"CREATE TABLE sequence_{index} (n INTEGER PRIMARY KEY, id INTEGER NOT NULL)")
        counts = [0] * len(dataset.SPLITS)
        ordered = self._database.execute("SELECT order_hash, id, split FROM assigned ORDER BY order_hash")
        for batch in _batches(self._settle_ties(ordered)):
            parts: list[list[tuple[int, int]]] = [[] for _ in dataset.SPLITS]
            for _, entry, split in batch:
                parts[split].append((counts[split], entry))
                counts[split] += 1
            for index, part in enumerate(parts):
                self._insert(f"sequence_{index}", part, columns=2)
        self._database.execute("DROP TABLE assigned")
        return tuple(counts)

    def _assign_images(self, class_names: tuple[str, ...]) -> bool:
        """Divide the images that have no split yet, class by class."""
        found = self._database.execute(
            "SELECT class, count(*) FROM entries WHERE given IS NULL GROUP BY class"
        ).fetchall()
        if not found:
            return False
        self._check_wanted()
        sizes = {self._classes[number]: count for number, count in found}
        splits.check_classes(class_names, sizes, len(self._wanted), unit="images")
        by_hash = self._database.execute(
            "SELECT split_hash, id, order_hash, class FROM entries WHERE given IS NULL ORDER BY class, split_hash"
        )
        for number, members in itertools.groupby(by_hash, key=lambda row: row[3]):
            chosen = self._choose(sizes[self._classes[number]])
            rows = ((row[2], split, row[1]) for row, split in zip(self._settle_ties(members), chosen, strict=True))
            self._insert("assigned", rows, columns=3)
        return True

    def _assign_groups(self, class_names: tuple[str, ...]) -> bool:
        """Give each group one split: the one the source gives to its images, or else the one where it is missing."""
        self._database.execute("CREATE TABLE grouped (id INTEGER PRIMARY KEY, grp BLOB, class INTEGER, given INTEGER)")
        self._database.execute(
            "INSERT INTO grouped SELECT id, coalesce(grp, own_group(key)), class, given FROM entries"
        )
        self._check_given_groups()
        self._database.execute("CREATE TABLE placed (grp BLOB PRIMARY KEY, split INTEGER) WITHOUT ROWID")
        self._database.execute(
            "INSERT INTO placed SELECT grp, max(given) FROM grouped WHERE given IS NOT NULL GROUP BY grp ORDER BY grp"
        )
        self._database.execute("CREATE TABLE members (grp BLOB, class INTEGER, images INTEGER)")
        self._database.execute(
            "INSERT INTO members SELECT grp, class, count(*) FROM grouped WHERE grp NOT IN (SELECT grp FROM placed) "
            "GROUP BY grp, class"
        )
        is_filling = self._place_groups(class_names)
        self._database.execute(
            "INSERT INTO assigned SELECT e.order_hash, p.split, e.id FROM grouped g JOIN placed p USING (grp) "
            "JOIN entries e ON e.id = g.id"
        )
        for table in ("members", "placed", "grouped"):
            self._database.execute(f"DROP TABLE {table}")
        return is_filling

    def _check_given_groups(self) -> None:
        parted = self._database.execute(
            "SELECT grp, min(given), max(given) FROM grouped GROUP BY grp HAVING min(given) < max(given) "
            "ORDER BY grp LIMIT 1"
        ).fetchone()
        if parted is not None:
            raise errors.ConfigError(
                f"group {pack_database.decode_text(parted[0])!r} must be in one split, and the source gives some of "
                f"its images to {dataset.SPLITS[parted[1]]} and some to {dataset.SPLITS[parted[2]]}."
            )

    def _place_groups(self, class_names: tuple[str, ...]) -> bool:
        totals = self._database.execute("SELECT class, sum(images), count(*) FROM members GROUP BY class").fetchall()
        if not totals:
            return False
        self._check_wanted()
        groups = {self._classes[number]: count for number, _, count in totals}
        splits.check_classes(class_names, groups, len(self._wanted), unit="groups")
        placer = splits.GroupPlacer(
            {row[0]: row[1] for row in totals}, {row[0]: row[2] for row in totals}, self._wanted
        )
        self._database.execute(
            "CREATE TABLE sized AS SELECT grp, sum(images) AS images, group_hash(grp) AS hash FROM members GROUP BY grp"
        )
        rows = self._database.execute(
            "SELECT s.grp, m.class, m.images FROM sized s JOIN members m USING (grp) "
            "ORDER BY s.images DESC, s.hash, s.grp, m.class"
        )
        self._insert("placed", _place_all(placer, rows), columns=2)
        self._database.execute("DROP TABLE sized")
        missing = placer.find_missing()
        if missing is not None:
            raise errors.ConfigError(
                f"class {self._classes[missing[0]]!r} must be in every split, and its groups leave none for "
                f"{missing[1]}. Add groups, make them smaller, set a split's ratio to 0, or try another --seed."
            )
        return True

    def _check_wanted(self) -> None:
        if not self._wanted:
            raise errors.ConfigError(
                "the source must give a split to every image, or leave one of train, validation and test with a ratio "
                "above 0 to packing: some images have no split, and no split is left for them."
            )

    def _insert(self, table: str, rows: Iterable[tuple[object, ...]], *, columns: int) -> None:
        """Insert rows in batches, so that the rows may come from a query that is still running."""
        statement = f"INSERT INTO {table} VALUES ({', '.join('?' * columns)})"  # noqa: S608 - a constant
        for batch in _batches(rows):
            self._database.executemany(statement, batch)

    def _choose(self, count: int) -> Iterator[int]:
        for name, share in splits.allocate(count, self._wanted).items():
            yield from itertools.repeat(dataset.SPLITS.index(name), share)

    def _settle_ties(self, rows: Iterable[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
        """Sort rows (hash, id, ...) of equal hashes by key; equal keys have equal hashes, so they meet here."""
        for _, equal in itertools.groupby(rows, key=lambda row: row[0]):
            tied = list(equal)
            if len(tied) > 1:
                keys = {row[1]: self._key_of(row[1]) for row in tied}
                tied.sort(key=lambda row: keys[row[1]])
                for left, right in itertools.pairwise(keys[row[1]] for row in tied):
                    if left == right:
                        raise errors.ConfigError(self._source.explain_duplicate(left))
            yield from tied

    def _key_of(self, entry: int) -> str:
        key: bytes = self._database.execute("SELECT key FROM entries WHERE id = ?", (entry,)).fetchone()[0]
        return pack_database.decode_text(key)


def _place_all(placer: splits.GroupPlacer, rows: Iterable[tuple[bytes, int, int]]) -> Iterator[tuple[bytes, int]]:
    for group, members in itertools.groupby(rows, key=lambda row: row[0]):
        yield group, dataset.SPLITS.index(placer.place({number: images for _, number, images in members}))


def _batches(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    iterator = iter(rows)
    while batch := list(itertools.islice(iterator, _BATCH)):
        yield batch
