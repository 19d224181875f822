"""`imagetrain data show`: some images of a data set on a contact sheet."""

import pathlib

import click

from imagetrain_client.cli import parameters

_MOST_SHOWN = 20
_SPLITS = ("train", "validation", "test")


@click.command(
    cls=parameters.Command,
    examples="""
    imagetrain data show s3://datasets/photos/v3/
    imagetrain data show s3://datasets/photos/latest --split test --class cat --output cats.png
    """,
)
@click.argument("uri")
@click.option("--split", type=click.Choice(_SPLITS), default="train", show_default=True, help="Split to show.")
@click.option("--class", "class_name", metavar="NAME", help="Class to show.  [default: all, evenly]")
@click.option("--count", type=click.IntRange(1, 4096), default=64, show_default=True, help="Most images to show.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Seed of the choice.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=pathlib.Path),
    default="sheet.png",
    show_default=True,
    help="File to write.",
)
def show(uri: str, *, split: str, class_name: str | None, count: int, seed: int, output: pathlib.Path) -> None:
    """Write a PNG with some images of the data set at URI, each with its label and key.

    Classes get equal shares. The same seed chooses the same images.
    """
    from imagetrain_trainer.data import show as show_module

    options = show_module.ShowOptions(split=split, class_name=class_name, count=count, seed=seed)
    shown = show_module.show(uri, output, options)
    click.echo(f"{shown.path}: {shown.count:,} of {shown.available:,} {split} images of {shown.uri}")
    for name, images in list(shown.class_counts.items())[:_MOST_SHOWN]:
        click.echo(f"  {name}: {images}")
    if len(shown.class_counts) > _MOST_SHOWN:
        click.echo(f"  and {len(shown.class_counts) - _MOST_SHOWN} more classes")
