"""Records as the reader hands them out, and the checks that each passes on its way from a shard's bytes.

Of a record that this package wrote no more is parsed than the place of its image; the rest waits until it is asked for.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from awscrt import checksums

from imagetrain_trainer import errors
from imagetrain_trainer.data import example, shard_indexes, tfrecord


class StoredRecord(NamedTuple):
    """A record as it lay in its shard, whose CRC is checked.

    Attributes:
        payload: the image's bytes (see `example.Record`).
        label: index into the data set's class names.
        head: the first bytes of its frame, up to the payload and a little of that.
        start: the payload's first place in the frame.
        tail: the frame's bytes behind the payload.
    """

    payload: bytes
    label: int
    head: bytes
    start: int
    tail: bytes

    def parse(self) -> example.Record:
        """Return all that it says; raises as `example.decode_record` does."""
        before = example.decode_head(self.head, tfrecord.HEADER_BYTES)
        behind = example.decode_tail(self.tail, len(self.tail) - tfrecord.FOOTER_BYTES)
        if before is None or behind is None:  # of another writer, or with features that no reader knows
            head, tail = self.head[tfrecord.HEADER_BYTES : self.start], self.tail[: -tfrecord.FOOTER_BYTES]
            return example.decode_record(b"".join((head, self.payload, tail)))
        kind, height, key, width = behind
        return example.Record(self.payload, self.label, kind, height, width, before[0], key)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RecordBatch:
    """Records in the order they were asked for; b of them, possibly none.

    What the attributes do not hold is parsed by its first use, which raises `errors.DataCorruptError` where a record
    does not say it.

    Attributes:
        payloads: encoded bytes of each image (see `example.Record`).
        labels: (b,) int32.
        record_ids: (b,) int64.
        stored: what the other columns are parsed from.
    """

    payloads: list[bytes]
    labels: npt.NDArray[np.int32]
    record_ids: npt.NDArray[np.int64]
    stored: Sequence[StoredRecord | example.Record]

    def __len__(self) -> int:
        return len(self.payloads)

    @property
    def size_bytes(self) -> int:
        """Bytes of all payloads."""
        return sum(map(len, self.payloads))

    @functools.cached_property
    def records(self) -> list[example.Record]:
        """All that each record says."""
        found = []
        for record_id, stored in zip(self.record_ids.tolist(), self.stored, strict=True):
            try:
                found.append(stored if isinstance(stored, example.Record) else stored.parse())
            except errors.DataCorruptError as e:
                raise errors.DataCorruptError(f"record id {record_id} {e}. {shard_indexes.ADVICE}") from e
        return found

    @property
    def formats(self) -> list[str]:
        """Of each: "raw", "png" or "jpeg"."""
        return [record.format for record in self.records]

    @property
    def keys(self) -> list[str]:
        """Source name of each."""
        return [record.key for record in self.records]

    @property
    def heights(self) -> npt.NDArray[np.int32]:
        """Pixels, (b,)."""
        return self._column(lambda record: record.height)

    @property
    def widths(self) -> npt.NDArray[np.int32]:
        """Pixels, (b,)."""
        return self._column(lambda record: record.width)

    @property
    def channels(self) -> npt.NDArray[np.int32]:
        """Of the stored image, (b,)."""
        return self._column(lambda record: record.channels)

    def _column(self, read: Callable[[example.Record], int]) -> npt.NDArray[np.int32]:
        return np.array([read(record) for record in self.records], np.int32)


def build(ids: npt.NDArray[np.int64], stored: Sequence[StoredRecord | example.Record]) -> RecordBatch:
    """Make a batch of records and their ids."""
    return RecordBatch(
        payloads=[record.payload for record in stored],
        labels=np.array([record.label for record in stored], np.int32),
        record_ids=ids,
        stored=stored,
    )


def open_frame(frame: memoryview, label: int, crc: int) -> StoredRecord | example.Record:
    """Check a record's frame against its index entry and open it.

    This runs once a record, so its calls are few: the head of frame and message is copied at once, the payload once,
    and its CRC is taken while its bytes are near.

    Args:
        frame: the bytes that the index names.
        label: of the index.
        crc: of the index, masked.

    Raises:
        errors.DataCorruptError: a check fails; the message is a rule, for the caller to prefix with the place.
    """
    head = bytes(frame[:_HEAD_BYTES])
    before = example.decode_head(head, tfrecord.HEADER_BYTES)
    if before is None or before[1] != label or before[3] > len(frame) - tfrecord.FOOTER_BYTES:
        return _open_other(frame, label, crc)
    _, _, start, stop = before
    payload, tail = bytes(frame[start:stop]), bytes(frame[stop:])
    found = tfrecord.mask(_crc32c(frame[tfrecord.HEADER_BYTES : -tfrecord.FOOTER_BYTES]))
    if not found == crc == tfrecord.read_crc(tail) or not tfrecord.is_header(head, len(frame)):
        return _open_other(frame, label, crc)
    return StoredRecord(payload, label, head, start, tail)


def _open_other(frame: memoryview, label: int, crc: int) -> example.Record:
    """Open a frame of another writer, or find what is wrong with it."""
    record = example.decode_record(tfrecord.unframe(bytes(frame), crc))
    if record.label != label:
        raise errors.DataCorruptError(f"must have its index's label {label}, got {record.label}")
    return record


_crc32c: Callable[[Any], int] = checksums.crc32c
_HEAD_BYTES = tfrecord.HEADER_BYTES + example.HEAD_BYTES
