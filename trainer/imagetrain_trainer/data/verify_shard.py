"""The checks of one shard: its size and checksums, its index against its bytes, and every record in it."""

import dataclasses
import struct
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from imagetrain_trainer import errors
from imagetrain_trainer.data import defects as defects_module
from imagetrain_trainer.data import example, image_check, shard_index, shard_stream, tfrecord
from imagetrain_trainer.data.dataset import Dataset, Shard
from imagetrain_trainer.storage import store

_CRC = struct.Struct("<I")
_NONE: frozenset[int] = frozenset()
_BLOCK_ENTRIES = 4096


@dataclasses.dataclass(slots=True, kw_only=True)
class ShardFindings:
    """What the check of one shard found.

    Attributes:
        defects: of the shard and its index.
        class_counts: (classes,) int64, of labels in range; from the index where the record is broken.
        uncounted: records whose label is known neither from the record nor from the index.
        objects: objects read.
        records: records read.
        images: images decoded.
        size_bytes: bytes read.
    """

    defects: defects_module.Defects = dataclasses.field(default_factory=defects_module.Defects)
    class_counts: npt.NDArray[np.int64]
    uncounted: int = 0
    objects: int = 0
    records: int = 0
    images: int = 0
    size_bytes: int = 0


class ShardVerifier:
    """Checks one shard from front to back; use it once."""

    def __init__(
        self,
        objects: store.ObjectStore,
        dataset: Dataset,
        shard: Shard,
        sample: frozenset[int] | None = _NONE,
        on_bytes: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Prepare.

        Args:
            objects: the data set's store.
            dataset: the whole, for classes and image facts.
            shard: the one to check.
            sample: numbers of the records in the shard whose images are decoded; None: all.
            on_bytes: told how many more bytes of the shard were read.
        """
        self._objects, self._dataset, self._shard, self._sample = objects, dataset, shard, sample
        self._on_bytes = on_bytes
        self._found = ShardFindings(class_counts=np.zeros(len(dataset.class_names), np.int64))

    def verify(self) -> ShardFindings:
        """Check everything; a defect is recorded, and the check goes on behind it.

        Raises:
            errors.StorageError: the store failed; what is missing there is a defect instead.
        """
        entries = self._load_index()
        try:
            stream = shard_stream.ShardStream(self._objects, self._shard.key)
        except errors.ObjectNotFoundError:
            self._add("missing", self._shard.key, "must be there: dataset.json lists it")
            self._count_listed(entries, 0)
            return self._found
        self._found.objects += 1
        if stream.size_bytes != self._shard.size_bytes:
            rule = f"must have the {self._shard.size_bytes} bytes that dataset.json lists, got {stream.size_bytes}"
            self._add("size", self._shard.key, rule)
        try:
            self._walk(stream, entries)
            stream.drain()
        except errors.DataCorruptError as e:
            self._add("size", self._shard.key, f"must not change while it is read ({e})")
        else:
            self._check_checksums(stream)
        self._tell(stream)
        return self._found

    def _load_index(self) -> shard_index.Entries | None:
        key = self._shard.index_key
        entries: shard_index.Entries | None
        try:
            entries = shard_stream.load_index(self._objects, self._shard)
        except errors.ObjectNotFoundError:
            self._add("missing", key, "must be there: dataset.json lists it")
            return None
        except errors.DataCorruptError as e:
            self._add("index", key, str(e))
            entries = None
        self._found.objects += 1
        return entries

    def _check_checksums(self, stream: shard_stream.ShardStream) -> None:
        if stream.size_bytes != self._shard.size_bytes:
            return  # said already
        if stream.crc32c != self._shard.crc32c:
            rule = f"must have CRC32C {self._shard.crc32c}, got {stream.crc32c}"
            self._add("checksum", self._shard.key, rule)
        if stream.sha256 != self._shard.sha256:
            rule = f"must have SHA-256 {self._shard.sha256[:16]}..., got {stream.sha256[:16]}..."
            self._add("checksum", self._shard.key, rule)

    def _walk(self, stream: shard_stream.ShardStream, entries: shard_index.Entries | None) -> None:
        """Check every record: where the index says it lies, or without an index by its own length."""
        if entries is None:
            self._walk_by_length(stream)
            return
        for number, (offset, length, label, crc) in enumerate(_iterate(entries)):
            frame = stream.take(length)
            if len(frame) < length:
                self._add_record("record", number, offset, f"must have {length} bytes, got {len(frame)}: cut off")
                self._count_listed(entries, number)
                return
            self._check_frame(number, offset, frame, (label, crc))
            self._tell(stream)

    def _walk_by_length(self, stream: shard_stream.ShardStream) -> None:
        number = 0
        while stream.offset < stream.size_bytes:
            offset = stream.offset
            header = stream.take(tfrecord.HEADER_BYTES)
            length = int.from_bytes(header[:8], "little")
            is_length = _CRC.pack(tfrecord.masked_crc32c(header[:8])) == header[8:]
            if not is_length or length + tfrecord.FRAME_BYTES > stream.size_bytes - offset:
                rule = "must begin with its length and that length's CRC32C; without an index the rest is not found"
                self._add_record("record", number, offset, rule)
                break
            self._check_frame(number, offset, header + stream.take(length + tfrecord.FOOTER_BYTES), None)
            self._tell(stream)
            number += 1
        if number != self._shard.records:
            self._add("counts", self._shard.key, f"must have {self._shard.records} records, got {number}")
            self._found.uncounted += 1

    def _check_frame(self, number: int, offset: int, frame: bytes, entry: tuple[int, int] | None) -> None:
        """Check a record; `entry` is the label and the CRC of its index entry."""
        self._found.records += 1
        try:
            record = example.decode_record(tfrecord.unframe(frame))
        except errors.DataCorruptError as e:
            self._add_record("record", number, offset, str(e))
            self._count_label(entry[0] if entry else None)
            return
        if entry is not None and _CRC.unpack_from(frame, len(frame) - _CRC.size)[0] != entry[1]:
            rule = f"must be the record of its index entry: it is whole, but another one (key {record.key[:80]!r})"
            self._add_record("index", number, offset, rule)
        if entry is not None and record.label != entry[0]:
            self._add_record("label", number, offset, f"must have its index's label {entry[0]}, got {record.label}")
        self._count_label(record.label)
        if not 0 <= record.label < len(self._dataset.class_names):
            rule = f"must have a label below {len(self._dataset.class_names)}, got {record.label}"
            self._add_record("label", number, offset, rule)
        self._check_image(number, offset, record)

    def _check_image(self, number: int, offset: int, record: example.Record) -> None:
        try:
            image_check.check_features(record, self._dataset.image)
            if self._sample is None or number in self._sample:
                self._found.images += 1
                image_check.check_decodes(record)
        except errors.DataCorruptError as e:
            self._add_record("image", number, offset, f"{e} (key {record.key[:80]!r})")

    def _count_listed(self, entries: shard_index.Entries | None, first: int) -> None:
        """Count the labels of the index from a record on, where the records cannot be read."""
        if entries is None:
            self._found.uncounted += 1
        else:
            for _, _, label, _ in _iterate(entries[first:]):
                self._count_label(label)

    def _count_label(self, label: int | None) -> None:
        if label is None:
            self._found.uncounted += 1
        elif 0 <= label < len(self._found.class_counts):
            self._found.class_counts[label] += 1

    def _tell(self, stream: shard_stream.ShardStream) -> None:
        if stream.fetched_bytes > self._found.size_bytes:
            self._on_bytes(stream.fetched_bytes - self._found.size_bytes)
            self._found.size_bytes = stream.fetched_bytes

    def _add(self, kind: str, key: str, rule: str) -> None:
        self._found.defects.add(defects_module.Defect(kind=kind, key=key, rule=rule))

    def _add_record(self, kind: str, number: int, offset: int, rule: str) -> None:
        self._found.defects.add(
            defects_module.Defect(kind=kind, key=self._shard.key, rule=rule, record=number, offset=offset)
        )


def _iterate(entries: shard_index.Entries) -> Iterator[tuple[int, int, int, int]]:
    """Yield the entries as tuples, of which a large shard's would take ten times the index's memory at once."""
    for start in range(0, len(entries), _BLOCK_ENTRIES):
        yield from entries[start : start + _BLOCK_ENTRIES].tolist()
