"""Tar files in the layout of WebDataset: KEY.jpg beside KEY.cls, KEY.json or KEY.txt with its label."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from imagetrain_trainer import errors
from imagetrain_trainer.data import (
    class_labels,
    file_sets,
    given_splits,
    image_limits,
    images,
    source_files,
    sources,
    table_rows,
    tar_index,
)

_MAX_LABEL_BYTES = 1024 * 1024
_COMPRESSED = ((b"\x1f\x8b", "gunzip"), (b"BZh", "bunzip2"), (b"\xfd7zXZ", "unxz"), (b"\x28\xb5\x2f\xfd", "unzstd"))
_LABEL_KINDS = ("cls", "json", "txt")  # in the order in which they are believed


class _Sample(NamedTuple):
    """The members that share a key: those that matter here, by their extension."""

    key: str
    images: dict[str, tar_index.Member]
    labels: dict[str, bytes]


def is_tar_name(name: str) -> bool:
    """Tell whether a file's name is one of a tar file, compressed or not."""
    return name.lower().endswith((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst"))


class TarSource(sources.Source):
    """The samples of a tar file, or those of a folder, glob pattern or s3:// prefix.

    The members of a sample follow each other, and the first dot of a file's name ends its key. Nothing is extracted;
    links and devices are passed over. The split comes from `split` in a sample's JSON, or else from the tar's name.
    """

    def __init__(
        self,
        place: str,
        files: source_files.SourceFiles | None = None,
        columns: table_rows.Columns | None = None,
    ) -> None:
        """List the tar files.

        Args:
            place: file, folder, pattern or prefix.
            files: reads it.
            columns: names of label, split and group in the samples' JSON.

        Raises:
            errors.ConfigError: there are no such files.
        """
        self._files = files or source_files.SourceFiles()
        self._columns = columns or table_rows.Columns()
        self._set = file_sets.FileSet(place, self._files, is_tar_name, "tar files (*.tar)")
        self.name = source_files.base_name(self._set.root)
        self.concurrent_reads = source_files.CONCURRENT_READS if source_files.is_s3(place) else 1

    def entries(self) -> Iterator[sources.Entry]:
        """Yield the samples in the order of the tars' names, and within a tar in its own order."""
        labels = class_labels.ClassLabels()
        self.ignored, self.ignored_count = (), 0
        for other in self._set.others:
            self._pass_over(other)
        for name, split in zip(self._set.names, self._set.splits, strict=True):
            place = self._set.place(name)
            with self._files.open(place) as file:
                for sample in self._samples(place, name, file):
                    try:
                        yield self._read_sample(name, split, sample, labels)
                    except errors.ConfigError as e:
                        raise errors.ConfigError(f"sample {sample.key!r} of {place!r} {e}.") from e
        self.class_names = labels.ordered()

    def _samples(self, place: str, name: str, file: BinaryIO) -> Iterator[_Sample]:
        sample: _Sample | None = None
        for member, (key, extension) in self._members(place, name, file):
            if sample is None or sample.key != key:
                if sample is not None and self._is_used(name, sample):
                    yield sample
                sample = _Sample(key, {}, {})
            if f".{extension.rpartition('.')[2]}" in images.SUFFIXES:
                sample.images[extension] = member
            elif extension in _LABEL_KINDS and member.size_bytes <= _MAX_LABEL_BYTES:
                file.seek(member.offset)
                sample.labels[extension] = file.read(member.size_bytes)
            else:
                self._pass_over(f"{name}/{member.name}")
        if sample is not None and self._is_used(name, sample):
            yield sample

    def _members(self, place: str, name: str, file: BinaryIO) -> Iterator[tuple[tar_index.Member, tuple[str, str]]]:
        """Yield the files of a tar with their key and lower-case extension."""
        try:
            _check_compression(file.read(8))
            for member in tar_index.iterate(file, self._files.size(place)):
                folder, slash, base = member.name.rpartition("/")
                if not member.is_file or source_files.is_hidden(base):
                    if not member.is_folder:
                        self._pass_over(f"{name}/{member.name}")
                    continue
                _check_name(member)
                key, _, extension = base.partition(".")
                yield member, (f"{folder}{slash}{key}", extension.lower())
        except errors.ConfigError as e:
            raise errors.ConfigError(f"{place!r} {e}.") from e

    def _is_used(self, name: str, sample: _Sample) -> bool:
        if not sample.images:
            for extension in sample.labels:
                self._pass_over(f"{name}/{sample.key}.{extension}")
        return bool(sample.images)

    def _pass_over(self, name: str) -> None:
        self.ignored_count += 1
        if self.ignored_count <= sources.MAX_IGNORED_NAMES:
            self.ignored += (name,)

    def _read_sample(
        self, name: str, split: str | None, sample: _Sample, labels: class_labels.ClassLabels
    ) -> sources.Entry:
        if len(sample.images) > 1:
            raise errors.ConfigError(f"must have one image, got {', '.join(sample.images)}")
        ((extension, member),) = sample.images.items()
        fields = self._read_json(sample.labels["json"]) if "json" in sample.labels else {}
        class_name = labels.add(self._read_label(sample, fields))
        if self._columns.split in fields:
            split = given_splits.parse(str(fields[self._columns.split]))
        group = None
        if self._columns.group is not None:
            if self._columns.group not in fields:
                raise errors.ConfigError(f"must have {self._columns.group!r} in its JSON, for --group-column names it")
            group = str(fields[self._columns.group]) or None
        locator = f"{member.offset}:{member.size_bytes}:{name}"
        return sources.Entry(f"{name}/{sample.key}.{extension}", class_name, split, group, locator)

    def _read_json(self, data: bytes) -> dict[str, Any]:
        try:
            fields = json.loads(data)
        except (ValueError, RecursionError) as e:
            raise errors.ConfigError(f"must have JSON that can be read ({str(e)[:80]})") from e
        if not isinstance(fields, dict):
            raise errors.ConfigError("must have a JSON object")
        return fields

    def _read_label(self, sample: _Sample, fields: dict[str, Any]) -> str:
        for kind in _LABEL_KINDS:
            if kind == "json" and self._columns.label in fields:
                return table_rows.as_label(fields[self._columns.label])
            if kind != "json" and kind in sample.labels:
                try:
                    return sample.labels[kind].decode().strip()
                except UnicodeDecodeError as e:
                    raise errors.ConfigError(f"must have a label in UTF-8 in its .{kind}") from e
        raise errors.ConfigError(
            f"must have a label: a .cls, a .json with {self._columns.label!r}, or a .txt beside its image, got "
            f"{', '.join(f'.{kind}' for kind in sample.labels) or 'none'}"
        )

    def read(self, locator: str) -> bytes:
        """Return the bytes of a member."""
        offset, size, name = locator.split(":", 2)
        if not 0 < int(size) <= image_limits.MAX_FILE_BYTES:
            raise errors.ConfigError(
                f"{self.describe(locator)} must have 1 to {image_limits.MAX_FILE_BYTES} bytes, got {size}."
            )
        return self._files.read_range(self._set.place(name), int(offset), int(size))

    def describe(self, locator: str) -> str:
        """Return a member's tar and offset."""
        offset, _, name = locator.split(":", 2)
        return f"image at offset {offset} of {self._set.place(name)!r}"


def _check_name(member: tar_index.Member) -> None:
    parts = member.name.split("/")
    if not member.name.isprintable() or pathlib.PurePosixPath(member.name).is_absolute() or ".." in parts:
        raise errors.ConfigError(f"must hold relative, printable names without '..', got {member.name[:200]!r}")


def _check_compression(start: bytes) -> None:
    for mark, program in _COMPRESSED:
        if start.startswith(mark):
            raise errors.ConfigError(
                f"must be an uncompressed tar file, got a compressed one: run {program} on it first, for images in it "
                "are read one by one"
            )
