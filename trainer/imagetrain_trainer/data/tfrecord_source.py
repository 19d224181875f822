"""TFRecord files that others wrote: tf.train.Example messages with an encoded image and its label."""

import dataclasses
import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from imagetrain_trainer import errors
from imagetrain_trainer.data import (
    class_labels,
    dataset,
    example,
    file_sets,
    image_limits,
    source_files,
    sources,
    tfrecord,
)

# `train-00000-of-01024` has no suffix in the ImageNet set that TensorFlow's own scripts write.
_NAME = re.compile(r"\.tfrecords?(?:[-.]|$)|-\d+-of-\d+$")
_GZIP = b"\x1f\x8b"
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_MAX_RECORD_BYTES = image_limits.MAX_FILE_BYTES + 1024 * 1024
_HEADER = struct.Struct("<QI")
FEATURE_TEXT = "image/class/text"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """The names of the features that hold an image and its label."""

    image: str = example.FEATURE_ENCODED
    label: str = example.FEATURE_LABEL
    text: str = FEATURE_TEXT
    """The class's name; without it, or where a record lacks it, the label itself is the name."""


def is_tfrecord_name(name: str) -> bool:
    """Tell whether a file's name is one of a TFRecord file."""
    return _NAME.search(name.rpartition("/")[2].lower()) is not None


class TfrecordSource(sources.Source):
    """The records of a file, folder, glob pattern or s3:// prefix; the split comes from the files' names.

    Labels are integers, which give the order of the classes, or texts, which sort. Every record's checksums are
    checked, when it is listed and when it is read.
    """

    def __init__(
        self, place: str, files: source_files.SourceFiles | None = None, features: Features | None = None
    ) -> None:
        """List the files.

        Args:
            place: file, folder, pattern or prefix.
            files: reads it.
            features: names of the features.

        Raises:
            errors.ConfigError: there are no such files.
        """
        self._files = files or source_files.SourceFiles()
        self._features = features or Features()
        self._set = file_sets.FileSet(place, self._files, is_tfrecord_name, "TFRecord files (*.tfrecord*)")
        self.name = source_files.base_name(self._set.root)
        self.concurrent_reads = source_files.CONCURRENT_READS if source_files.is_s3(place) else 1
        self._own_names = self._read_own_names()
        self.ignored = tuple(self._set.others[: sources.MAX_IGNORED_NAMES])
        self.ignored_count = len(self._set.others)

    def _read_own_names(self) -> tuple[str, ...]:
        """Return the names of the classes where the files are a data set that packing wrote."""
        if dataset.KEY not in self._set.others:
            return ()
        place = self._set.place(dataset.KEY)
        try:
            return dataset.parse(self._files.read(place)).class_names
        except errors.DataCorruptError as e:
            raise errors.ConfigError(f"{place!r} must be the description of a data set ({e}).") from e

    def entries(self) -> Iterator[sources.Entry]:
        """Yield the records in the order of the files' names."""
        labels = class_labels.ClassLabels()
        for name, split in zip(self._set.names, self._set.splits, strict=True):
            place = self._set.place(name)
            with self._files.open(place) as file:
                for number, (offset, data) in enumerate(_iterate(place, file)):
                    try:
                        class_name = self._read_label(data, labels)
                    except (errors.ConfigError, errors.DataCorruptError) as e:
                        raise errors.ConfigError(f"{_where(place, offset)} {e}.") from e
                    locator = f"{offset}:{len(data) + tfrecord.FRAME_BYTES}:{name}"
                    yield sources.Entry(f"{name}[{number}]", class_name, split, None, locator)
        self.class_names = labels.ordered()

    def _read_label(self, data: bytes, labels: class_labels.ClassLabels) -> str:
        features = example.decode_features(data)
        self._check_image(features)
        values = features.get(self._features.label)
        if not values or len(values) != 1 or isinstance(values[0], float):
            raise errors.ConfigError(self._missing("label", self._features.label, features))
        value = values[0]
        if isinstance(value, bytes):
            return labels.add(value.decode("utf-8", "backslashreplace"))
        own = self._own_names[value] if 0 <= value < len(self._own_names) else None
        return labels.add_number(value, self._read_text(features) or own)

    def _read_text(self, features: dict[str, example.FeatureValue]) -> str | None:
        values = features.get(self._features.text)
        if values and len(values) == 1 and isinstance(values[0], bytes):
            return values[0].decode("utf-8", "backslashreplace")
        return None

    def _check_image(self, features: dict[str, example.FeatureValue]) -> bytes:
        values = features.get(self._features.image)
        if not values or len(values) != 1 or not isinstance(values[0], bytes):
            raise errors.ConfigError(self._missing("image", self._features.image, features))
        return values[0]

    def _missing(self, what: str, name: str, features: dict[str, example.FeatureValue]) -> str:
        found = ", ".join(sorted(features)[:20])[:300]
        return f"must have one {what} in feature {name!r}, got features {found}. Pass --{what}-feature"

    def read(self, locator: str) -> bytes | npt.NDArray[np.uint8]:
        """Return a record's image file, or its pixels where its format is `raw`, as in our own data sets."""
        offset, length, name = locator.split(":", 2)
        place = self._set.place(name)
        framed = self._files.read_range(place, int(offset), int(length))
        try:
            features = example.decode_features(tfrecord.unframe(framed))
            data = self._check_image(features)
            return _shape(data, features) if features.get(example.FEATURE_FORMAT) == [b"raw"] else data
        except (errors.ConfigError, errors.DataCorruptError) as e:
            raise errors.ConfigError(f"{_where(place, int(offset))} {e}.") from e

    def describe(self, locator: str) -> str:
        """Return a record's file and offset."""
        offset, _, name = locator.split(":", 2)
        return _where(self._set.place(name), int(offset))


def _where(place: str, offset: int) -> str:
    return f"record at offset {offset} of {place!r}"


def _shape(data: bytes, features: dict[str, example.FeatureValue]) -> npt.NDArray[np.uint8]:
    """Return the pixels of a raw record, (height, width, 1 or 3)."""
    sides = [features.get(name) for name in (example.FEATURE_HEIGHT, example.FEATURE_WIDTH, example.FEATURE_CHANNELS)]
    shape = [side[0] for side in sides if side and isinstance(side[0], int)]
    is_shape = len(shape) == 3 and min(shape) > 0 and shape[2] in (1, 3)
    if not is_shape or shape[0] * shape[1] * shape[2] != len(data):
        raise errors.ConfigError(f"must have height x width x 1 or 3 bytes, got {len(data)} and shape {shape}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _iterate(place: str, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, data) of each record of a file that may be of any size; one record is in memory."""
    offset = 0
    while header := file.read(tfrecord.HEADER_BYTES):
        if offset == 0:
            _check_compression(place, header)
        length = _check_header(place, offset, header)
        framed = header + file.read(length + tfrecord.FOOTER_BYTES)
        if len(framed) < length + tfrecord.FRAME_BYTES:
            raise _cut_off(place, offset)
        try:
            yield offset, tfrecord.unframe(framed)
        except errors.DataCorruptError as e:
            raise errors.ConfigError(f"{_where(place, offset)} {e}. Write or copy the file again.") from e
        offset += len(framed)


def _check_header(place: str, offset: int, header: bytes) -> int:
    """Return the length of a record's data, in bytes."""
    if len(header) < tfrecord.HEADER_BYTES:
        raise _cut_off(place, offset)
    length, crc = _HEADER.unpack(header)
    if crc != tfrecord.masked_crc32c(header[:8]):
        raise errors.ConfigError(
            f"{_where(place, offset)} must begin with its length and that length's CRC32C. It is damaged, compressed "
            "or no TFRecord file: write or copy it again."
        )
    if length > _MAX_RECORD_BYTES:
        raise errors.ConfigError(f"{_where(place, offset)} must have at most {_MAX_RECORD_BYTES} bytes, got {length}.")
    return int(length)


def _check_compression(place: str, start: bytes) -> None:
    is_zlib = start.startswith(_ZLIB) and start[8:] != struct.pack("<I", tfrecord.masked_crc32c(start[:8]))
    if start.startswith(_GZIP) or is_zlib:
        kind, fix = ("ZLIB", "write it without compression") if is_zlib else ("GZIP", "run gunzip on it")
        raise errors.ConfigError(
            f"{place!r} must be an uncompressed TFRecord file, got {kind}: {fix} first, as records are read singly."
        )


def _cut_off(place: str, offset: int) -> errors.ConfigError:
    return errors.ConfigError(f"{_where(place, offset)} is cut off by the end of the file. Write or copy it again.")
