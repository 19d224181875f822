"""`imagetrain data info`: what a data set holds."""

import json
from typing import TYPE_CHECKING

import click

from imagetrain_client.cli import parameters
from imagetrain_client.display import histogram, wording

if TYPE_CHECKING:
    from imagetrain_trainer.data import dataset
    from imagetrain_trainer.data import info as info_module


@click.command(
    cls=parameters.Command,
    examples="""
    imagetrain data info s3://datasets/photos/
    imagetrain data info /srv/datasets/photos --json
    """,
)
@click.argument("uri")
@click.option("--json", "is_json", is_flag=True, help="Write one JSON document.")
def info(uri: str, *, is_json: bool) -> None:
    """Show what the data set at URI holds: images, classes, splits, and a histogram of the classes."""
    from imagetrain_trainer.data import info as info_module

    found = info_module.describe(uri)
    if is_json:
        click.echo(json.dumps(found.as_json(), indent=1))
    else:
        _print_info(found)


def _print_info(found: "info_module.DatasetInfo") -> None:
    image = found.image
    colors = "gray" if image.channels == 1 else "color"
    shards = sum(split.shards for split in found.splits)
    lines = (
        ("name", found.name),
        ("uri", found.uri),
        ("digest", found.digest),
        ("images", f"{found.records:,}, {_image_size(image)} pixels, {colors}, {image.encoding}"),
        ("stored", f"{wording.size(found.size_bytes)} in {shards} shard{'s' if shards > 1 else ''}"),
        ("splits", ", ".join(f"{split.name} {split.records:,}" for split in found.splits)),
        ("classes", str(len(found.class_names))),
    )
    for label, value in lines:
        click.echo(f"{label:<9} {value}")
    click.echo()
    for line in histogram.lines(found.histogram(), [split.name for split in found.splits]):
        click.echo(line)


def _image_size(image: "dataset.ImageFacts") -> str:
    if image.height is not None and image.width is not None:
        return f"{image.height} x {image.width}"
    return f"{image.min_height}-{image.max_height} x {image.min_width}-{image.max_width}"
