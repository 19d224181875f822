"""The records of two data sets, compared by key and by image, through a sorted file on disk."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import itertools
import pathlib
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset as dataset_module
from imagetrain_trainer.data import example, shard_stream, tfrecord
from imagetrain_trainer.data.dataset import Dataset, Shard
from imagetrain_trainer.storage import store

MOST_NAMED = 20  # of each kind; what is beyond is counted
_CONCURRENT_SHARDS = 4
_BATCH_RECORDS = 1000
_HASH_BYTES = 16
_CACHE_KIB = 64 * 1024  # of sqlite's pages in memory
_TRAIN, _TEST = dataset_module.SPLITS.index("train"), dataset_module.SPLITS.index("test")
# Keys are bytes, for file names need not be text.
_CREATE = "CREATE TABLE records (side INTEGER, split INTEGER, class INTEGER, key BLOB, image BLOB)"
_BY_KEY = "SELECT side, split, class, key, image FROM records ORDER BY key"
_BY_IMAGE = (
    "SELECT side, split, class, key, image FROM records WHERE side = 0 AND split = ? OR side = 1 AND split = ? "
    "ORDER BY image, side, key"
)


class Side(NamedTuple):
    """One of the two data sets."""

    objects: store.ObjectStore
    dataset: Dataset


class _Row(NamedTuple):
    """One record; `class_number` counts through the class names of both sides."""

    side: int
    split: int
    class_number: int
    key: bytes
    image: bytes


class NamedRecords:
    """A number of records, and the first of them in words."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def add(self, text: str) -> None:
        """Count one."""
        self.count += 1
        if len(self.first) < MOST_NAMED:
            self.first.append(text)

    def as_json(self) -> dict[str, Any]:
        """Return a document for `json.dumps`."""
        return {"count": self.count, "first": self.first}


@dataclasses.dataclass(slots=True, kw_only=True)
class RecordDiff:
    """What became of the records. A record is known by its key; several of one key are paired, equal ones first.

    Attributes:
        unchanged: records with the same key, image, class and split.
        added: records that only B has.
        removed: records that only A has.
        changed: records whose image has other bytes in B.
        relabeled: records whose class has another name in B.
        moved: records that are in another split in B.
        moves: how many moved, by (split in A, split in B).
        leaked: records of B's test split whose image, byte for byte, is in A's train split: a model of A knows them.
    """

    unchanged: int = 0
    added: NamedRecords = dataclasses.field(default_factory=NamedRecords)
    removed: NamedRecords = dataclasses.field(default_factory=NamedRecords)
    changed: NamedRecords = dataclasses.field(default_factory=NamedRecords)
    relabeled: NamedRecords = dataclasses.field(default_factory=NamedRecords)
    moved: NamedRecords = dataclasses.field(default_factory=NamedRecords)
    moves: dict[tuple[str, str], int] = dataclasses.field(default_factory=dict)
    leaked: NamedRecords = dataclasses.field(default_factory=NamedRecords)

    @property
    def is_same(self) -> bool:
        """Tell whether all records are unchanged."""
        return not any(each.count for each in (self.added, self.removed, self.changed, self.relabeled, self.moved))

    def as_json(self) -> dict[str, Any]:
        """Return a document for `json.dumps`, with camelCase keys."""
        kinds = ("added", "removed", "changed", "relabeled", "moved", "leaked")
        return {
            "unchanged": self.unchanged,
            **{kind: getattr(self, kind).as_json() for kind in kinds},
            "moves": [{"a": a, "b": b, "count": count} for (a, b), count in sorted(self.moves.items())],
        }


def compare(sides: tuple[Side, Side], on_progress: Callable[[int, int], None]) -> RecordDiff:
    """Read all records of both data sets and compare them.

    Raises:
        errors.DataCorruptError: a record is damaged; names shard and record.
        errors.StorageError: the store failed.
        errors.DiskFullError: the temporary folder is full.
    """
    class_names = list(dict.fromkeys([*sides[0].dataset.class_names, *sides[1].dataset.class_names]))
    with (
        tempfile.TemporaryDirectory(prefix="imagetrain-diff-") as folder,
        _translated(folder),
        contextlib.closing(_open(pathlib.Path(folder, "records.sqlite"))) as database,
    ):
        _load(database, sides, class_names, on_progress)
        comparison = _Comparison(class_names)
        for _, rows in itertools.groupby(_select(database, _BY_KEY), key=lambda row: row.key):
            comparison.add_key(rows)
        suspects = _select(database, _BY_IMAGE, (_TRAIN, _TEST))
        for _, rows in itertools.groupby(suspects, key=lambda row: row.image):
            comparison.add_image(rows)
        return comparison.found


def _open(path: pathlib.Path) -> sqlite3.Connection:
    """Open a database that nobody needs after a crash, and whose sorting spills to disk."""
    database = sqlite3.connect(path, check_same_thread=False)
    for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}", "temp_store = FILE"):
        database.execute(f"PRAGMA {pragma}")
    database.execute(_CREATE)
    return database


def _load(
    database: sqlite3.Connection,
    sides: tuple[Side, Side],
    class_names: list[str],
    on_progress: Callable[[int, int], None],
) -> None:
    """Fill the table; a shard that several places have, by its SHA-256, is read once."""
    uses: dict[str, list[tuple[int, int]]] = {}
    origins: dict[str, tuple[Side, Shard]] = {}
    for number, side in enumerate(sides):
        for split_number, split in enumerate(dataset_module.SPLITS):
            for shard in side.dataset.splits[split].shards:
                uses.setdefault(shard.sha256, []).append((number, split_number))
                origins.setdefault(shard.sha256, (side, shard))
    numbers = {name: number for number, name in enumerate(class_names)}
    classes = [[numbers[name] for name in side.dataset.class_names] for side in sides]
    total = sum(shard.size_bytes for _, shard in origins.values())
    lock, done = threading.Lock(), 0

    def load(digest: str) -> None:
        nonlocal done
        side, shard = origins[digest]
        records = _read_shard(side, shard, min(len(classes[number]) for number, _ in uses[digest]))
        while rows := list(itertools.islice(records, _BATCH_RECORDS)):
            for number, split_number in uses[digest]:
                batch = [(number, split_number, classes[number][label], key, image) for label, key, image in rows]
                with lock:
                    database.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?)", batch)
        with lock:
            done += shard.size_bytes
            on_progress(done, total)

    with concurrent.futures.ThreadPoolExecutor(_CONCURRENT_SHARDS, "imagetrain-diff") as pool:
        futures = [pool.submit(load, digest) for digest in origins]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    database.commit()


def _read_shard(side: Side, shard: Shard, classes: int) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield label, key and image hash of each record, checked by its CRCs; at the end the shard by its SHA-256."""
    uri = side.objects.uri_of(shard.key)
    stream = shard_stream.ShardStream(side.objects, shard.key)
    number = 0
    while header := stream.take(tfrecord.HEADER_BYTES):
        offset = stream.offset - len(header)
        length = min(int.from_bytes(header[:8], "little"), stream.size_bytes) + tfrecord.FOOTER_BYTES
        try:
            record = example.decode_record(tfrecord.unframe(header + stream.take(length)))
            shard_stream.check_label_range(record, classes)
        except errors.DataCorruptError as e:
            place = f"{uri} record {number} at offset {offset}"
            raise errors.DataCorruptError(f"{place} {e}. Run `imagetrain data verify`.") from e
        number += 1
        yield record.label, record.key.encode("utf-8", "surrogateescape"), _hash(record)
    if stream.sha256 != shard.sha256:
        raise errors.DataCorruptError(
            f"{uri} must have the SHA-256 that dataset.json lists. Run `imagetrain data verify`."
        )


def _hash(record: example.Record) -> bytes:
    """Hash an image's bytes; pixels without a header are told apart by their size."""
    shape = f"{record.format} {record.height} {record.width} {record.channels} ".encode()
    return hashlib.blake2b(shape + record.payload, digest_size=_HASH_BYTES).digest()


def _select(database: sqlite3.Connection, query: str, values: tuple[int, ...] = ()) -> Iterator[_Row]:
    return map(_Row._make, database.execute(query, values))


class _Comparison:
    """Takes the records of one key or one image at a time, in sorted order."""

    def __init__(self, class_names: list[str]) -> None:
        self.found = RecordDiff()
        self._class_names = class_names

    def add_key(self, rows: Iterator[_Row]) -> None:
        """Compare the records of one key: what both sides have alike is paired first, the rest in order."""
        counts: tuple[collections.Counter[_Row], ...] = (collections.Counter(), collections.Counter())
        for row in rows:
            counts[row.side][row._replace(side=0)] += 1
        self.found.unchanged += (counts[0] & counts[1]).total()
        before, after = (sorted((counts[i] - counts[1 - i]).elements()) for i in (0, 1))
        for row_a, row_b in zip(before, after, strict=False):
            self._add_pair(row_a, row_b)
        for row in before[len(after) :]:
            self.found.removed.add(self._describe(row))
        for row in after[len(before) :]:
            self.found.added.add(self._describe(row))

    def _add_pair(self, row_a: _Row, row_b: _Row) -> None:
        key, splits = _text(row_b.key), (dataset_module.SPLITS[row_a.split], dataset_module.SPLITS[row_b.split])
        if row_a.image != row_b.image:
            self.found.changed.add(self._describe(row_b))
        if row_a.class_number != row_b.class_number:
            classes = (self._class_names[row_a.class_number], self._class_names[row_b.class_number])
            self.found.relabeled.add(f"{key}: {classes[0]} -> {classes[1]}")
        if row_a.split != row_b.split:
            self.found.moves[splits] = self.found.moves.get(splits, 0) + 1
            self.found.moved.add(f"{key}: {splits[0]} -> {splits[1]}")

    def add_image(self, rows: Iterator[_Row]) -> None:
        """Count the records of B's test split whose image A's train split has; rows of A come first."""
        source: _Row | None = None
        for row in rows:
            if row.side == 0:
                source = source or row
            elif source is not None:
                same = "" if row.key == source.key else f" is {_text(source.key)} of A's train"
                self.found.leaked.add(f"{_text(row.key)}{same}")

    def _describe(self, row: _Row) -> str:
        return f"{_text(row.key)} ({dataset_module.SPLITS[row.split]}, {self._class_names[row.class_number]})"


def _text(key: bytes) -> str:
    return key.decode("utf-8", "replace")


@contextlib.contextmanager
def _translated(folder: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as e:
        if e.sqlite_errorname != "SQLITE_FULL" and not e.sqlite_errorname.startswith("SQLITE_IOERR"):
            raise
        raise errors.DiskFullError(
            f"{folder} must have room for the keys of both data sets ({e}). Free space, or set TMPDIR."
        ) from e
