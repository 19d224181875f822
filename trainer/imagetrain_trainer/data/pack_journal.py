"""The journal of a pack: what each finished shard holds, so that a killed pack goes on behind its last one.

A *segment* is the run of positions that one shard took from the work list, refused images included. Its row, the hashes
of its images and its refusals are committed together, after the shard is in the store. Journaled segments lie one
behind the other from position 0 on.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from imagetrain_trainer.data import dataset, pack_database, pack_tally, shard_writer
from imagetrain_trainer.storage import store

_TABLES = """
CREATE TABLE IF NOT EXISTS pack (fingerprint TEXT);
CREATE TABLE IF NOT EXISTS segments
    (start INTEGER PRIMARY KEY, stop INTEGER, split TEXT, written TEXT, tally TEXT);
CREATE TABLE IF NOT EXISTS hashes (digest BLOB, position INTEGER, label INTEGER);
CREATE TABLE IF NOT EXISTS refused (position INTEGER PRIMARY KEY, reason TEXT);
"""


class Refusal(NamedTuple):
    """An image that was left out.

    Attributes:
        position: in the order of the work list.
        reason: a sentence that names it and the rule.
    """

    position: int
    reason: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One finished shard, and what it holds.

    Attributes:
        split: that it belongs to.
        start: its first position.
        stop: the position behind its last one.
        written: the shard; None when every image was refused, at the end of a split.
        tally: of its images.
    """

    split: str
    start: int
    stop: int
    written: shard_writer.WrittenShard | None
    tally: pack_tally.Tally


class Journal:
    """Reads and writes the journal; in one thread."""

    def __init__(self, path: pathlib.Path) -> None:
        """Open it, and make it when there is none. Raises as `pack_database.translate` does."""
        self._path = path
        with pack_database.translate(path):
            self._database = pack_database.open_durable(path)
            try:
                self._database.executescript(_TABLES)
            except BaseException:
                self._database.close()
                raise

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def begin(self, fingerprint: str) -> None:
        """Keep the segments of a pack with this fingerprint, and forget those of any other."""
        with pack_database.translate(self._path), self._database:
            known = self._database.execute("SELECT fingerprint FROM pack").fetchone()
            if known == (fingerprint,):
                return
            for table in ("pack", "segments", "hashes", "refused"):
                self._database.execute(f"DELETE FROM {table}")  # noqa: S608 - a constant
            self._database.execute("INSERT INTO pack VALUES (?)", (fingerprint,))

    def append(self, segment: Segment, hashes: Iterable[tuple[bytes, int, int]], refusals: Iterable[Refusal]) -> None:
        """Add the next segment, the (digest, position, label) of its images, and its refusals."""
        written = None if segment.written is None else json.dumps(dataclasses.asdict(segment.written))
        row = (segment.start, segment.stop, segment.split, written, json.dumps(segment.tally.as_json()))
        with pack_database.translate(self._path), self._database:
            self._database.execute("INSERT INTO segments VALUES (?, ?, ?, ?, ?)", row)
            self._database.executemany("INSERT INTO hashes VALUES (?, ?, ?)", hashes)
            self._database.executemany("INSERT INTO refused VALUES (?, ?)", refusals)

    def segments(self) -> Iterator[Segment]:
        """Yield all segments in order."""
        with pack_database.translate(self._path):
            rows = self._database.execute("SELECT split, start, stop, written, tally FROM segments ORDER BY start")
            for split, start, stop, written, tally in rows:
                yield Segment(
                    split=split,
                    start=start,
                    stop=stop,
                    written=None if written is None else _parse_written(json.loads(written)),
                    tally=pack_tally.Tally.from_json(json.loads(tally)),
                )

    def forget_from(self, position: int) -> None:
        """Remove the segments from this position on."""
        with pack_database.translate(self._path), self._database:
            self._database.execute("DELETE FROM segments WHERE start >= ?", (position,))
            self._database.execute("DELETE FROM hashes WHERE position >= ?", (position,))
            self._database.execute("DELETE FROM refused WHERE position >= ?", (position,))

    def refusals(self, limit: int) -> list[Refusal]:
        """Return the first refusals in the order of the work list."""
        with pack_database.translate(self._path):
            rows = self._database.execute("SELECT position, reason FROM refused ORDER BY position LIMIT ?", (limit,))
            return [Refusal(*row) for row in rows]

    def count_refusals(self) -> int:
        """Return the number of all refusals."""
        with pack_database.translate(self._path):
            count: int = self._database.execute("SELECT count(*) FROM refused").fetchone()[0]
            return count

    def hashes(self) -> Iterator[tuple[bytes, int, int]]:
        """Yield the (digest, position, label) of every image, sorted by digest and then position."""
        with pack_database.translate(self._path):
            yield from self._database.execute("SELECT digest, position, label FROM hashes ORDER BY digest, position")


def _parse_written(document: Mapping[str, Any]) -> shard_writer.WrittenShard:
    return shard_writer.WrittenShard(
        shard=dataset.Shard(**document["shard"]),
        stored=store.ObjectInfo(**document["stored"]),
        stored_index=store.ObjectInfo(**document["stored_index"]),
    )


def is_intact(segment: Segment, found: Mapping[str, store.ObjectInfo]) -> bool:
    """Tell whether a segment's shard is in the store exactly as it was written, by `found`: what is there, by key."""
    objects = () if segment.written is None else (segment.written.stored, segment.written.stored_index)
    return all(found.get(info.key) == info for info in objects)
