"""Showing a data set: some of its images on a contact sheet, in a PNG file."""

import collections
import dataclasses
import pathlib

from imagetrain_trainer import errors
from imagetrain_trainer.data import choose, contact_sheet, versions
from imagetrain_trainer.storage import local, store


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ShowOptions:
    """What to show."""

    split: str = "train"
    """One of the splits."""
    class_name: str | None = None
    """The one class to show; None: all, evenly."""
    count: int = 64
    """Most images on the sheet."""
    seed: int = 0
    """Of the choice."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What is on a sheet.

    Attributes:
        path: of the PNG file.
        uri: of the data set.
        available: images of the split (of the class, if one was asked for).
        class_counts: images on the sheet by class name, in the order of the labels; classes without any are left out.
    """

    path: pathlib.Path
    uri: str
    available: int
    class_counts: dict[str, int]

    @property
    def count(self) -> int:
        """Images on the sheet."""
        return sum(self.class_counts.values())


def show(uri: str, output: pathlib.Path, options: ShowOptions, s3: store.S3Settings | None = None) -> Shown:
    """Draw a contact sheet and write it as a PNG; the same data set and options give the same choice.

    Raises:
        errors.ConfigError: there is no such class, or it has no image in the split.
        errors.ObjectNotFoundError: no data set is there.
        errors.DataCorruptError: an index or a chosen record is damaged.
        errors.StorageError: the store failed.
        errors.DiskFullError, errors.AccessDeniedError: the file cannot be written.
    """
    place = versions.locate(uri, s3)
    dataset = versions.load(place)
    split = dataset.splits[options.split]
    label = _find_label(dataset.class_names, options.class_name)
    available = split.records if label is None else split.class_counts[label]
    of_class = "" if options.class_name is None else f" of class {options.class_name!r}"
    if not available:
        raise errors.ConfigError(f"--split must be one with images{of_class}, got {options.split}: it has none.")
    chosen = choose.choose_records(
        place.objects, dataset, options.split, count=options.count, seed=options.seed, label=label
    )
    version = f" {place.version}" if place.version else ""
    caption = contact_sheet.Caption(
        title=f"{dataset.name}{version}: {options.split}",
        subtitle=f"{len(chosen):,} of {available:,} images{of_class}, {len(dataset.class_names):,} classes in all, "
        f"seed {options.seed}, {dataset.digest[:19]}",
    )
    sheet = contact_sheet.draw(chosen, dataset.class_names, caption)
    with local.translate_os_errors(output.absolute().as_uri(), "write"), local.write_atomically(output) as file:
        sheet.save(file, "PNG", optimize=True)
    counts = collections.Counter(each.record.label for each in chosen)
    return Shown(
        path=output,
        uri=place.objects.uri,
        available=available,
        class_counts={dataset.class_names[label]: counts[label] for label in sorted(counts)},
    )


def _find_label(class_names: tuple[str, ...], class_name: str | None) -> int | None:
    if class_name is None:
        return None
    if class_name not in class_names:
        known = ", ".join(class_names[:10]) + (", ..." if len(class_names) > 10 else "")
        raise errors.ConfigError(f"--class must be one of {known}, got {class_name!r}.")
    return class_names.index(class_name)
