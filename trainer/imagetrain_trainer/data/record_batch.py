"""Records as the reader hands them out, and the checks that each passes on its way from a shard's bytes."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

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
    return RecordBatch(
        payloads=[record.payload for record in records],
        formats=[record.format for record in records],
        labels=np.array([record.label for record in records], np.int32),
        record_ids=ids,
        heights=np.array([record.height for record in records], np.int32),
        widths=np.array([record.width for record in records], np.int32),
        channels=np.array([record.channels for record in records], np.int32),
        keys=[record.key for record in records],
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
    tfrecord.check_length(frame)
    own = example.decode_view(frame[tfrecord.HEADER_BYTES : -tfrecord.FOOTER_BYTES])
    if own is not None:
        record, parts = own
        if not tfrecord.masked_crc32c(*parts) == crc == tfrecord.read_crc(frame):
            raise errors.DataCorruptError("must match its CRC32C")
    else:
        record = example.decode_record(tfrecord.unframe(bytes(frame), crc))
    if record.label != label:
        raise errors.DataCorruptError(f"must have its index's label {label}, got {record.label}")
    return record
