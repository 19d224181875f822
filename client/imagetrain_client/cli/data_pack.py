"""`imagetrain data pack`: images into a data set."""

import contextlib
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

import click
from rich import console as rich_console
from rich import progress

from imagetrain_client.cli import data_latest, parameters
from imagetrain_client.display import wording
from imagetrain_trainer import errors

if TYPE_CHECKING:
    from imagetrain_trainer.data import pack as pack_module
    from imagetrain_trainer.data import sources

_MOST_SHOWN = 20  # lines of one kind; what is beyond is counted
_LINE_SECONDS = 10.0  # between lines of progress where there is no terminal


@click.command(
    cls=parameters.Command,
    examples="""
    imagetrain data pack photos/ s3://datasets/photos/
    imagetrain data pack photos/ s3://datasets/photos/v2/ --latest
    imagetrain data pack photos/ /srv/datasets/photos --split 8:1:1 --skip-bad
    imagetrain data pack digits.npz s3://datasets/digits/ --name digits
    imagetrain data pack labels.csv s3://datasets/patients/v1/ --group-column patient
    imagetrain data pack photos/ s3://datasets/photos/224/ --encoding raw --size 224x224
    """,
)
@click.argument("source")
@click.argument("destination")
@click.option("--name", help="Name of the data set.  [default: that of SOURCE]")
@click.option(
    "--split",
    type=parameters.Ratios(),
    default="3:1:1",
    show_default=True,
    help="Shares of train, validation and test. Splits that SOURCE brings are kept.",
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Seed of the split.")
@click.option("--shard-size", type=parameters.Size(), default="64Mi", show_default=True, help="Size of a shard.")
@click.option("--channels", type=click.Choice(["1", "3"]), help="Channels to convert to.  [default: as the images are]")
@click.option(
    "--encoding",
    type=click.Choice(["keep", "jpeg", "png", "raw"]),
    default="keep",
    show_default=True,
    help="Keep each file's bytes where that is possible, or store all images alike; raw ones need no decoding.",
)
@click.option("--quality", type=click.IntRange(1, 100), help="Of --encoding jpeg.  [default: 90]")
@click.option(
    "--longest-side", type=click.IntRange(1), help="Scale larger images down to this (jpeg and png), in pixels."
)
@click.option("--size", type=parameters.ImageSize(), help="Scale every image to this (raw), in pixels.")
@click.option(
    "--alpha",
    type=click.Choice(["white", "black", "refuse"]),
    default="white",
    show_default=True,
    help="What transparent pixels are laid on.",
)
@click.option(
    "--sixteen-bit",
    type=click.Choice(["refuse", "scale"]),
    default="refuse",
    show_default=True,
    help="Images of more than 8 bits a channel: refuse them, or keep the upper 8 bits.",
)
@click.option(
    "--animated",
    type=click.Choice(["refuse", "first"]),
    default="refuse",
    show_default=True,
    help="GIFs and animations: refuse them, or take the first picture.",
)
@click.option("--format", "kind", help="What SOURCE is: tree, npz, csv, jsonl, tfrecord or tar.  [default: found out]")
@click.option("--path-column", default="path", show_default=True, help="Of a list: where an image lies.")
@click.option("--label-column", default="label", show_default=True, help="Of a list or a tar's JSON: the class.")
@click.option("--split-column", help="Likewise: the split that an image is given.  [default: split, if there is one]")
@click.option("--group-column", help="Likewise: images of one group stay in one split.")
@click.option("--image-feature", default="image/encoded", show_default=True, help="Of TFRecord files: the image.")
@click.option("--label-feature", default="image/class/label", show_default=True, help="Of TFRecord files: the class.")
@click.option("--skip-bad", is_flag=True, help="Leave out what cannot be read, and list it.")
@click.option("--allow-leakage", is_flag=True, help="Let equal images be in two splits.")
@click.option(
    "--processes", type=click.IntRange(1, 256), help="Processes that read and encode.  [default: one per core]"
)
@click.option(
    "--work-dir",
    type=click.Path(file_okay=False, path_type=pathlib.Path),
    help="Folder for the list of images, about 200 bytes each.  [default: in ~/.cache/imagetrain/pack]",
)
@click.option("--latest", "is_latest", is_flag=True, help="Make it the latest of the versions beside DESTINATION.")
@click.option("--restart", is_flag=True, help="Begin anew where a pack that was stopped would go on.")
def pack(source: str, destination: str, **chosen: Any) -> None:  # noqa: ANN401 - click passes one argument an option
    """Pack SOURCE into a data set at DESTINATION, with a split that keeps the share of every class.

    SOURCE is a folder with one folder of images a class, an .npz file (x (n, height, width[, channels]) uint8 and y
    (n,), or x_train, y_train, x_test and y_test, and optionally classes, their names), a list (.csv or .jsonl) of paths
    and labels, TFRecord files or tar files of samples, on a disk or on s3://. DESTINATION is a folder or an s3://
    prefix. The same SOURCE and options give the same bytes. A pack that was stopped goes on when it is started again.
    """
    from imagetrain_trainer.data import pack as pack_module

    options = _build_options(chosen)
    pack_module.check_places(source, destination)
    origin = _open_source(source, chosen)
    if chosen["is_latest"]:
        data_latest.check_move(destination)
    with _Display() as display, _saying_how_to_go_on(display):
        summary = pack_module.pack(origin, destination, options, display.show)
    _print_summary(summary)
    if chosen["is_latest"]:
        data_latest.print_move(destination)


def _build_options(chosen: dict[str, Any]) -> "pack_module.PackOptions":
    from imagetrain_trainer.data import encoding, images
    from imagetrain_trainer.data import pack as pack_module

    return pack_module.PackOptions(
        name=chosen["name"],
        ratios=chosen["split"],
        seed=chosen["seed"],
        shard_size_bytes=chosen["shard_size"],
        channels=int(chosen["channels"]) if chosen["channels"] else None,
        encoding=encoding.EncodingOptions(
            kind=chosen["encoding"],
            quality=chosen["quality"],
            longest_side=chosen["longest_side"],
            size=chosen["size"],
        ),
        policy=images.ImagePolicy(
            alpha=chosen["alpha"], sixteen_bit=chosen["sixteen_bit"], animated=chosen["animated"]
        ),
        skip_bad=chosen["skip_bad"],
        allow_leakage=chosen["allow_leakage"],
        processes=chosen["processes"],
        work_dir=chosen["work_dir"],
        restart=chosen["restart"],
    )


def _open_source(source: str, chosen: dict[str, Any]) -> "sources.Source":
    from imagetrain_trainer.data import source_kinds

    names = ("path_column", "label_column", "split_column", "group_column", "image_feature", "label_feature")
    options = source_kinds.SourceOptions(format=chosen["kind"], **{name: chosen[name] for name in names})
    return source_kinds.open_source(source, options)


class _Display:
    """Progress as a bar in a terminal, and as a line now and then elsewhere."""

    def __init__(self) -> None:
        self.last: pack_module.PackProgress | None = None
        self._bar = _packing_bar()
        self._tasks: dict[str, progress.TaskID] = {}
        self._is_terminal = sys.stderr.isatty()
        self._started = self._shown = time.monotonic()
        self._first = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def show(self, state: "pack_module.PackProgress") -> None:
        """Show how far packing is."""
        is_new = self.last is None or self.last.stage != state.stage
        if is_new:
            self._started, self._first = time.monotonic(), state.done
        self.last = state
        if self._is_terminal:
            if is_new:
                self._tasks[state.stage] = self._bar.add_task(state.stage, total=state.total, completed=state.done)
            self._bar.update(self._tasks[state.stage], completed=state.done, total=state.total)
        elif time.monotonic() - self._shown >= _LINE_SECONDS:
            self._shown = time.monotonic()
            click.echo(self._line(state), err=True)

    def _line(self, state: "pack_module.PackProgress") -> str:
        if state.total is None:
            return f"listed {state.done:,} images"
        rate = (state.done - self._first) / max(time.monotonic() - self._started, 1e-3)
        return f"packed {state.done:,} of {state.total:,} images ({rate:,.0f} a second)"


@contextlib.contextmanager
def _saying_how_to_go_on(display: _Display) -> Iterator[None]:
    """Say behind an interruption or a failure that nothing is lost."""
    try:
        yield
    except (KeyboardInterrupt, errors.StorageError, errors.DiskFullError):
        last = display.last
        if last is not None and last.stage == "pack" and last.done:
            click.echo("Start the same command again: it goes on behind the last finished shard.", err=True)
        raise


def _packing_bar() -> progress.Progress:
    return progress.Progress(
        progress.TextColumn("{task.description:<6}"),
        progress.BarColumn(bar_width=32),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        console=rich_console.Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def _print_summary(summary: "pack_module.PackSummary") -> None:
    dataset, duplicates = summary.dataset, summary.duplicates
    counts = ", ".join(f"{name} {split.records:,}" for name, split in dataset.splits.items())
    click.echo(f"{summary.uri}: {len(dataset.class_names)} classes, {counts}, {wording.size(summary.size_bytes)}")
    if summary.resumed:
        click.echo(f"went on behind {summary.resumed:,} images of an earlier run")
    for conversion, count in summary.conversions.items():
        click.echo(f"converted {conversion}: {count}")
    _print_some("skipped", [skipped.reason for skipped in summary.skipped], summary.skipped_count)
    _print_some("ignored", list(summary.ignored), summary.ignored_count)
    if duplicates.images:
        click.echo(f"equal images: {duplicates.images} are copies of another")
    for what, pairs, count in (
        ("with two labels", duplicates.class_pairs, duplicates.across_classes),
        ("in two splits", duplicates.split_pairs, duplicates.across_splits),
    ):
        _print_some(f"warning: equal images {what}:", [str(pair) for pair in pairs], count)


def _print_some(verb: str, lines: list[str], count: int) -> None:
    if not count:
        return
    click.echo(f"{verb} {count}:")
    for line in lines[:_MOST_SHOWN]:
        click.echo(f"  {line}")
    if count > _MOST_SHOWN:
        click.echo(f"  and {count - _MOST_SHOWN} more")
