"""`imagetrain data pack`: images into a data set."""

import sys
from typing import TYPE_CHECKING

import click
from rich import console as rich_console
from rich import progress

from imagetrain_client.cli import parameters
from imagetrain_client.display import wording

if TYPE_CHECKING:
    from imagetrain_trainer.data import pack as pack_module

_MOST_SHOWN = 20  # lines of one kind; what is beyond is counted


@click.command(
    cls=parameters.Command,
    examples="""
    imagetrain data pack photos/ s3://datasets/photos/
    imagetrain data pack photos/ /srv/datasets/photos --split 8:1:1 --skip-bad
    imagetrain data pack digits.npz s3://datasets/digits/ --name digits
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
    help="Shares of train, validation and test. A test split that SOURCE brings is kept.",
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Seed of the split.")
@click.option("--shard-size", type=parameters.Size(), default="64Mi", show_default=True, help="Size of a shard.")
@click.option("--channels", type=click.Choice(["1", "3"]), help="Channels to convert to.  [default: as the images are]")
@click.option("--skip-bad", is_flag=True, help="Leave out what cannot be read, and list it.")
@click.option("--threads", type=click.IntRange(1, 256), help="Images read at once.  [default: one per core]")
def pack(  # noqa: PLR0913 - click passes one argument an option
    *,
    source: str,
    destination: str,
    name: str | None,
    split: tuple[float, float, float],
    seed: int,
    shard_size: int,
    channels: str | None,
    skip_bad: bool,
    threads: int | None,
) -> None:
    """Pack SOURCE into a data set at DESTINATION, with a split that keeps the share of every class.

    SOURCE is a folder with one folder of images a class, or an .npz file: x (n, height, width[, channels]) uint8 and y
    (n,), or x_train, y_train, x_test and y_test, and optionally classes, their names. DESTINATION is a folder or an
    s3:// prefix. The same SOURCE and options give the same bytes.
    """
    from imagetrain_trainer.data import pack as pack_module

    options = pack_module.PackOptions(
        name=name,
        ratios=split,
        seed=seed,
        shard_size_bytes=shard_size,
        skip_bad=skip_bad,
        channels=int(channels) if channels else None,
        threads=threads,
    )
    console = rich_console.Console(stderr=True)
    with _packing_bar(console) as bar:
        tasks: dict[str, progress.TaskID] = {}

        def show(state: "pack_module.PackProgress") -> None:
            if state.stage not in tasks:
                tasks[state.stage] = bar.add_task(state.stage, total=state.total)
            bar.update(tasks[state.stage], completed=state.done, total=state.total)

        summary = pack_module.pack(source, destination, options, show)
    _print_summary(summary)


def _packing_bar(console: rich_console.Console) -> progress.Progress:
    return progress.Progress(
        progress.TextColumn("{task.description:<6}"),
        progress.BarColumn(bar_width=32),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def _print_summary(summary: "pack_module.PackSummary") -> None:
    dataset = summary.dataset
    counts = ", ".join(f"{name} {split.records:,}" for name, split in dataset.splits.items())
    click.echo(f"{summary.uri}: {len(dataset.class_names)} classes, {counts}, {wording.size(summary.size_bytes)}")
    for conversion, count in summary.conversions.items():
        click.echo(f"converted {conversion}: {count}")
    _print_some("skipped", [skipped.reason for skipped in summary.skipped])
    _print_some("ignored", list(summary.ignored))


def _print_some(verb: str, lines: list[str]) -> None:
    if not lines:
        return
    click.echo(f"{verb} {len(lines)}:")
    for line in lines[:_MOST_SHOWN]:
        click.echo(f"  {line}")
    if len(lines) > _MOST_SHOWN:
        click.echo(f"  and {len(lines) - _MOST_SHOWN} more")
