"""From chunks of images in order to shards in the store, each journaled once it is there."""

import collections
import contextlib
import dataclasses
from collections.abc import Iterable, Mapping

from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset, pack_journal, pack_tally, pack_uploads, pack_worker, shard_writer
from imagetrain_trainer.storage import store


@dataclasses.dataclass(slots=True)
class Packed:
    """What is finished so far; grows with the number of shards, not of images.

    Attributes:
        position: the first one that no finished segment holds.
        shards: of each split, in order.
        tallies: of each split.
    """

    position: int = 0
    shards: dict[str, list[dataset.Shard]] = dataclasses.field(
        default_factory=lambda: {name: [] for name in dataset.SPLITS}
    )
    tallies: dict[str, pack_tally.Tally] = dataclasses.field(
        default_factory=lambda: {name: pack_tally.Tally() for name in dataset.SPLITS}
    )

    def take(self, segment: pack_journal.Segment) -> None:
        """Add the next finished segment."""
        assert segment.start == self.position
        self.position = segment.stop
        self.tallies[segment.split].merge(segment.tally)
        if segment.written is not None:
            self.shards[segment.split].append(segment.written.shard)


def resume(
    journal: pack_journal.Journal, found: Mapping[str, store.ObjectInfo], uniformity: pack_tally.Uniformity
) -> Packed:
    """Take over what an earlier run finished, up to the first shard that the destination no longer holds as written."""
    packed = Packed()
    for segment in journal.segments():
        if not pack_journal.is_intact(segment, found):
            break
        packed.take(segment)
        uniformity.resume(segment.tally)
    journal.forget_from(packed.position)
    return packed


class _Draft:
    """A segment in the making."""

    def __init__(self, start: int, target_bytes: int) -> None:
        self.start = start
        self.shard = shard_writer.OpenShard(target_bytes)
        self.tally = pack_tally.Tally()
        self.hashes: list[tuple[bytes, int, int]] = []
        self.refusals: list[pack_journal.Refusal] = []

    def add(self, facts: pack_tally.RecordFacts, frame: memoryview) -> None:
        self.shard.add(frame, facts.label, facts.crc)
        self.tally.add(facts)
        self.hashes.append((facts.digest, facts.position, facts.label))


Done = tuple[pack_journal.Segment, _Draft]
"""A finished segment, and what the journal keeps beside it."""


class ShardAssembler:
    """Puts the images of one split after another into shards.

    It holds the shard that is being filled; those that are being written are `pack_uploads`'s.
    """

    def __init__(
        self,
        objects: store.ObjectStore,
        journal: pack_journal.Journal,
        uploads: "pack_uploads.Uploads[Done]",
        packed: Packed,
        target_bytes: int,
    ) -> None:
        self._objects = objects
        self._journal = journal
        self._uploads = uploads
        self._packed = packed
        self._target_bytes = target_bytes
        self._numbers = collections.Counter({split: len(shards) for split, shards in packed.shards.items()})
        self._split = ""
        self._draft = _Draft(0, target_bytes)

    def begin(self, split: str, position: int) -> None:
        """Go on with a split from a position on."""
        self._split = split
        self._draft = _Draft(position, self._target_bytes)

    def add(self, chunk: pack_worker.Chunk) -> None:
        """Add the next images; may start to write a shard, and journals those that are written.

        Raises:
            errors.StorageError: a shard could not be written.
        """
        frames = memoryview(chunk.frames)
        refusals = collections.deque(chunk.refusals)
        offset = 0
        for facts in chunk.records:
            while refusals and refusals[0].position < facts.position:
                self._draft.refusals.append(refusals.popleft())
            if not self._draft.shard.has_room(facts.frame_bytes):
                self._write(facts.position)
            self._draft.add(facts, frames[offset : offset + facts.frame_bytes])
            offset += facts.frame_bytes
        self._draft.refusals.extend(refusals)
        self._note(self._uploads.collect())

    def end(self, stop: int) -> None:
        """Write the last shard of the split, whose positions end here; raises as `add` does."""
        if stop > self._draft.start:
            self._write(stop)

    def finish(self) -> None:
        """Wait until every shard is written and journaled; raises as `add` does."""
        self._note(self._uploads.drain())

    def rescue(self) -> None:
        """After an error, journal the shards that were being written, up to the first that could not be."""
        with contextlib.suppress(errors.TrainerError):
            self._note(self._uploads.drain())

    def _write(self, stop: int) -> None:
        draft, split = self._draft, self._split
        self._draft = _Draft(stop, self._target_bytes)
        number = self._numbers[split]
        self._numbers[split] += draft.shard.records > 0

        def write() -> Done:
            # At the end of a split there may be refused images alone.
            written = draft.shard.write(self._objects, split, number) if draft.shard.records else None
            segment = pack_journal.Segment(
                split=split, start=draft.start, stop=stop, written=written, tally=draft.tally
            )
            return segment, draft

        self._note(self._uploads.submit(write))

    def _note(self, done: Iterable[Done]) -> None:
        for segment, draft in done:
            self._journal.append(segment, draft.hashes, draft.refusals)
            self._packed.take(segment)
