"""`imagetrain data info`: what a data set holds, or which versions a prefix does."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from imagetrain_client.cli import parameters
from imagetrain_client.display import histogram, wording
from imagetrain_trainer import errors

if TYPE_CHECKING:
    from imagetrain_trainer.data import dataset
    from imagetrain_trainer.data import info as info_module

_DIGEST_SHOWN = 19  # "sha256:" and twelve digits


@click.command(
    cls=parameters.Command,
    examples="""
    imagetrain data info s3://datasets/photos/v3/
    imagetrain data info s3://datasets/photos/latest
    imagetrain data info s3://datasets/photos/
    imagetrain data info /srv/datasets/photos --json
    """,
)
@click.argument("uri")
@click.option("--json", "is_json", is_flag=True, help="Write one JSON document.")
def info(uri: str, *, is_json: bool) -> None:
    """Show what the data set at URI holds: images, classes, splits, and a histogram of the classes.

    Where URI holds no data set but versions of one, each in a folder, show those.
    """
    from imagetrain_trainer.data import info as info_module

    try:
        found = info_module.describe(uri)
    except errors.ObjectNotFoundError:
        versions = info_module.find_versions(uri)
        if versions is None:
            raise
        _show(versions.as_json() if is_json else None, lambda: _print_versions(versions))
        return
    _show(found.as_json() if is_json else None, lambda: _print_info(found))


def _show(document: dict[str, Any] | None, print_text: Callable[[], None]) -> None:
    if document is None:
        print_text()
    else:
        click.echo(json.dumps(document, indent=1))


def _print_versions(found: "info_module.VersionsInfo") -> None:
    rows = [("version", "images", "classes", "size", "digest")]
    for each in found.entries:
        mark = " (latest)" if found.latest is not None and each.name == found.latest.version else ""
        if each.dataset is None:
            rows.append((f"{each.name}{mark}", "", "", "", each.problem))
            continue
        size_bytes = sum(split.size_bytes for split in each.dataset.splits.values())
        counts = (f"{each.dataset.records:,}", f"{len(each.dataset.class_names):,}", wording.size(size_bytes))
        rows.append((f"{each.name}{mark}", *counts, each.dataset.digest[:_DIGEST_SHOWN]))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for version, images, classes, size, digest in rows:
        numbers = f"{images:>{widths[1]}}  {classes:>{widths[2]}}  {size:>{widths[3]}}"
        click.echo(f"{version:<{widths[0]}}  {numbers}  {digest}")
    if found.problem:
        click.echo(found.problem)
    elif found.latest is None:
        click.echo(f"No version is the latest: imagetrain data latest {found.uri} --set VERSION")


def _print_info(found: "info_module.DatasetInfo") -> None:
    for label, value in _describe(found):
        click.echo(f"{label:<10} {value}")
    if found.size_histogram and len(found.size_histogram) > 1:
        click.echo()
        for line in histogram.bars("longest side", _name_buckets(found.size_histogram)):
            click.echo(line)
    click.echo()
    for line in histogram.lines(found.histogram(), [split.name for split in found.splits]):
        click.echo(line)


def _describe(found: "info_module.DatasetInfo") -> list[tuple[str, str]]:
    image = found.image
    colors = "gray" if image.channels == 1 else "color"
    shards = sum(split.shards for split in found.splits)
    lines = [
        ("name", found.name),
        ("uri", found.uri),
        ("digest", found.digest),
        ("images", f"{found.records:,}, {_image_size(image)} pixels, {colors}, {image.encoding}"),
        ("stored", f"{wording.size(found.size_bytes)} in {shards} shard{'s' if shards > 1 else ''}"),
        ("splits", ", ".join(f"{split.name} {split.records:,}" for split in found.splits)),
        ("classes", str(len(found.class_names))),
    ]
    if found.version is not None:
        lines.insert(2, ("version", f"{found.version} (latest)"))
    if found.packing:
        lines.append(("packed by", ", ".join(f"{key} {_plain(value)}" for key, value in found.packing.items())))
    if found.duplicates is not None:
        lines.append(("duplicates", _describe_duplicates(found.duplicates)))
    return lines


def _describe_duplicates(duplicates: "dataset.DuplicateCounts") -> str:
    if not duplicates.images:
        return "none"
    return (
        f"{duplicates.images:,} copies of images; {duplicates.across_splits:,} images are in several splits, "
        f"{duplicates.across_classes:,} have several labels"
    )


def _plain(value: Any) -> str:  # noqa: ANN401 - any value of a JSON document
    return value if isinstance(value, str) else json.dumps(value)


def _name_buckets(buckets: tuple[tuple[int | None, int], ...]) -> list[tuple[str, int]]:
    """Name each bucket by its bounds in pixels; those before the first image and behind the last are left out."""
    named = []
    lowest = 1
    for bound, count in buckets:
        named.append((f"{lowest}-{bound}" if bound is not None else f"{lowest} and more", count))
        lowest = lowest if bound is None else bound + 1
    filled = [position for position, (_, count) in enumerate(named) if count]
    return named[filled[0] : filled[-1] + 1] if filled else []


def _image_size(image: "dataset.ImageFacts") -> str:
    if image.height is not None and image.width is not None:
        return f"{image.height} x {image.width}"
    return f"{image.min_height}-{image.max_height} x {image.min_width}-{image.max_width}"
