"""Records as the reader hands them out, and the checks that each passes on its way from a shard's bytes."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from awscrt import checksums

from imagetrain_trainer import errors
from imagetrain_trainer.data import example, tfrecord


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RecordBatch:
    """Records in the order they were asked for; b of them, possibly none.

    Attributes:
        payloads: encoded bytes of each image (see `example.Record`).
        formats: "raw", "png" or "jpeg" of each.
        labels: (b,) int32.
        record_ids: (b,) int64.
        heights: (b,) int32, pixels.
        widths: (b,) int32, pixels.
        channels: (b,) int32, of the stored image.
        keys: source name of each.
    """

    payloads: list[bytes]
    formats: list[str]
    labels: npt.NDArray[np.int32]
    record_ids: npt.NDArray[np.int64]
    heights: npt.NDArray[np.int32]
    widths: npt.NDArray[np.int32]
    channels: npt.NDArray[np.int32]
    keys: list[str]

    def __len__(self) -> int:
        return len(self.payloads)

    @property
    def size_bytes(self) -> int:
        """Bytes of all payloads."""
        return sum(map(len, self.payloads))


def build(ids: npt.NDArray[np.int64], records: Sequence[example.Record]) -> RecordBatch:
    """Make a batch of records and their ids."""
    payloads, labels, formats, heights, widths, channels, keys = zip(*records, strict=True) if records else [()] * 7
    return RecordBatch(
        payloads=list(payloads),
        formats=list(formats),
        labels=np.array(labels, np.int32),
        record_ids=ids,
        heights=np.array(heights, np.int32),
        widths=np.array(widths, np.int32),
        channels=np.array(channels, np.int32),
        keys=list(keys),
    )


def open_frame(frame: memoryview, label: int, crc: int) -> example.Record:
    """Check a record's frame against its index entry and parse it.

    Args:
        frame: the bytes that the index names.
        label: of the index.
        crc: of the index, masked.

    Raises:
        errors.DataCorruptError: a check fails; the message is a rule, for the caller to prefix with the place.
    """
    record = _open_own(frame, crc)
    if record is None:
        record = example.decode_record(tfrecord.unframe(bytes(frame), crc))
    if record.label != label:
        raise errors.DataCorruptError(f"must have its index's label {label}, got {record.label}")
    return record


def _open_own(frame: memoryview, crc: int) -> example.Record | None:
    """Open a frame that this package wrote; None for another's, and for one that fails a check.

    This runs once a record, so its calls are few: the head of frame and message is copied at once, the payload once,
    and its CRC is taken while the copy is near.
    """
    head = bytes(frame[:_HEAD_BYTES])
    before = example.decode_head(head, tfrecord.HEADER_BYTES)
    if before is None or not tfrecord.is_header(head, len(frame)):
        return None
    channels, label, start, stop = before
    payload = bytes(frame[start:stop])
    tail = bytes(frame[stop:])
    tail_stop = len(tail) - tfrecord.FOOTER_BYTES
    found = _crc32c(tail[:tail_stop], _crc32c(payload, _crc32c(head[tfrecord.HEADER_BYTES : start])))
    behind = example.decode_tail(tail, tail_stop)
    if behind is None or not tfrecord.mask(found) == crc == tfrecord.read_crc(tail):
        return None
    kind, height, key, width = behind
    return example.Record(payload, label, kind, height, width, channels, key)


_crc32c = checksums.crc32c
_HEAD_BYTES = tfrecord.HEADER_BYTES + example.HEAD_BYTES
