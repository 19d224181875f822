"""Which kind of source a place is."""

import dataclasses
import itertools
import pathlib
import re

from imagetrain_trainer import errors
from imagetrain_trainer.data import (
    csv_source,
    file_sets,
    images,
    npz_source,
    source_files,
    sources,
    table_rows,
    tar_source,
    tfrecord_source,
    tree_source,
)
from imagetrain_trainer.storage import store

FORMATS = ("tree", "npz", "csv", "jsonl", "tfrecord", "tar")
_MOST_LOOKED_AT = 1000  # files of a folder whose names tell its kind
_BY_SUFFIX = {".npz": "npz", ".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_ACCEPTED = (
    "a folder with a folder per class, an .npz file, a list (.csv, .tsv, .jsonl), TFRecord files (*.tfrecord*) or tar "
    "files (*.tar), on a disk or on s3://"
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """How to read a source."""

    format: str | None = None
    """One of `FORMATS`; found out from what is there by default."""
    path_column: str = "path"
    """Of a list: the column of the images' paths."""
    label_column: str = "label"
    """Of a list, or of the JSON of a tar's samples: the class."""
    split_column: str | None = None
    """Likewise: the given split; by default `split`, where there is one."""
    group_column: str | None = None
    """Likewise: images of one group never part into several splits."""
    image_feature: str = "image/encoded"
    """Of TFRecord files: the encoded image."""
    label_feature: str = "image/class/label"
    """Of TFRecord files: the class, an integer or a text."""

    def __post_init__(self) -> None:
        if self.format not in (None, *FORMATS):
            raise errors.ConfigError(f"format must be one of {', '.join(FORMATS)}, got {self.format!r}.")
        for field in dataclasses.fields(self):
            if field.name != "format" and getattr(self, field.name) == "":
                raise errors.ConfigError(f"{field.name} must be a name, got ''.")

    def columns(self) -> table_rows.Columns:
        """Return the names of columns."""
        return table_rows.Columns(
            path=self.path_column,
            label=self.label_column,
            split=self.split_column or "split",
            group=self.group_column,
            is_split_required=self.split_column is not None,
        )


DEFAULT_OPTIONS = SourceOptions()


def open_source(
    place: str | pathlib.Path, options: SourceOptions = DEFAULT_OPTIONS, s3: store.S3Settings | None = None
) -> sources.Source:
    """Open the source at a path, glob pattern, file:// or s3:// URI.

    Args:
        place: where.
        options: how.
        s3: settings of s3:// places.

    Raises:
        errors.ConfigError: it is no source, or breaks a rule; the message names the file or array and the rule.
        errors.StorageError: object storage failed.
    """
    files, text = source_files.SourceFiles(s3), source_files.parse(str(place))
    kind = options.format or _find_kind(text, files)
    if options.group_column is not None and kind not in ("csv", "jsonl", "tar"):
        raise errors.ConfigError(
            f"group_column must be left out for a source of format {kind}, got {options.group_column!r}: only lists "
            "and tar files have columns."
        )
    if kind == "tree":
        return tree_source.TreeSource(text, files)
    if kind == "npz":
        return npz_source.NpzSource(text, files)
    if kind == "tar":
        return tar_source.TarSource(text, files, options.columns())
    if kind == "tfrecord":
        features = tfrecord_source.Features(image=options.image_feature, label=options.label_feature)
        return tfrecord_source.TfrecordSource(text, files, features)
    return csv_source.TableSource(text, files, options.columns(), kind=kind)


def _find_kind(text: str, files: source_files.SourceFiles) -> str:
    by_name = _find_by_name(text)
    is_remote = source_files.is_s3(text)
    if file_sets.is_pattern(text):
        if by_name in ("tar", "tfrecord"):
            return by_name
        raise errors.ConfigError(
            f"source must be {_ACCEPTED}, and a pattern must match tar or TFRecord files, got {text!r}. Pass --format "
            "if it does."
        )
    if not is_remote and pathlib.Path(text).is_dir():
        return _look_into(text, files)
    if not is_remote and not pathlib.Path(text).exists():
        raise errors.ConfigError(f"source must be {_ACCEPTED}, but {text!r} does not exist.")
    if by_name is not None:
        return by_name
    if not is_remote:
        raise errors.ConfigError(f"source must be {_ACCEPTED}, got {text!r}. Pass --format if it is.")
    return _look_into(text, files)


def _find_by_name(text: str) -> str | None:
    if text.endswith("/"):
        return None
    name = text.rpartition("/")[2]
    if file_sets.is_pattern(text):
        # Names that it would match: `*` may stand for nothing at an end, and for a number anywhere.
        names = [re.sub(r"\*+|\[[^]]*\]", "00000", text).replace("?", "0") for text in (name, name.rstrip("*"))]
        return next((kind for kind in map(_find_by_suffix, names) if kind in ("tar", "tfrecord")), None)
    return _find_by_suffix(name)


def _find_by_suffix(name: str) -> str | None:
    if tar_source.is_tar_name(name):
        return "tar"
    if tfrecord_source.is_tfrecord_name(name):
        return "tfrecord"
    return _BY_SUFFIX.get(pathlib.PurePosixPath(name.lower()).suffix)


def _look_into(folder: str, files: source_files.SourceFiles) -> str:
    """Return the kind of a folder: a tree, unless there is no image among its first files but files of another kind."""
    names = list(itertools.islice(files.walk(folder), _MOST_LOOKED_AT))
    if not names and source_files.is_s3(folder):
        raise errors.ConfigError(f"source must be {_ACCEPTED}, and {folder!r} holds nothing.")
    if not any(pathlib.PurePosixPath(name).suffix.lower() in images.SUFFIXES for name in names):
        for kind, is_wanted in (("tar", tar_source.is_tar_name), ("tfrecord", tfrecord_source.is_tfrecord_name)):
            if any(map(is_wanted, names)):
                return kind
    return "tree"
