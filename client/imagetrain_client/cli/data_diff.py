"""`imagetrain data diff`: what differs between two data sets."""

import json
import sys
from typing import TYPE_CHECKING

import click
from rich import console as rich_console
from rich import progress

from imagetrain_client.cli import failures, parameters
from imagetrain_client.display import wording

if TYPE_CHECKING:
    from imagetrain_trainer.data import diff as diff_module
    from imagetrain_trainer.data import diff_records

_MOST_SHOWN = 20
_DIFFERENT_STATUS = 1  # as diff(1) says it
_KINDS = (
    ("added", "images are only in B"),
    ("removed", "images are only in A"),
    ("changed", "images have other bytes in B"),
    ("relabeled", "images have another class in B"),
    ("moved", "images are in another split in B"),
)


@click.command(
    cls=parameters.Command,
    examples="""
    imagetrain data diff s3://datasets/photos/v1/ s3://datasets/photos/v2/
    imagetrain data diff s3://datasets/photos/v1/ s3://datasets/photos/latest --counts
    """,
)
@click.argument("a")
@click.argument("b")
@click.option("--counts", "is_counting_only", is_flag=True, help="Compare the descriptions alone, and read no image.")
@click.option("--json", "is_json", is_flag=True, help="Write one JSON document.")
def diff(a: str, b: str, *, is_counting_only: bool, is_json: bool) -> None:
    """Show what differs between data sets A and B: classes, counts, and images by their keys and bytes.

    Images of A's train split that are in B's test split are told: a model trained on A knows them already.

    Exits with 0 when both hold the same images under the same labels in the same splits, with 1 when not.
    """
    from imagetrain_trainer.data import diff as diff_module

    bar = progress.Progress(
        progress.TextColumn("comparing"),
        progress.BarColumn(bar_width=32),
        progress.DownloadColumn(),
        progress.TimeRemainingColumn(),
        console=rich_console.Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task("", total=None)
        found = diff_module.diff(
            a,
            b,
            diff_module.DiffOptions(is_counting_only=is_counting_only),
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    if is_json:
        click.echo(json.dumps(found.as_json(), indent=1))
    else:
        _print_diff(found)
    if not found.is_same:
        raise failures.CommandEnd(_DIFFERENT_STATUS)


def _print_diff(found: "diff_module.DatasetDiff") -> None:
    for name, uri, digest in zip("AB", found.uris, found.digests, strict=True):
        click.echo(f"{name}  {uri} ({digest})")
    if found.is_identical:
        click.echo("identical: one digest")
        return
    _print_some("classes are only in B", len(found.classes_added), found.classes_added)
    _print_some("classes are only in A", len(found.classes_removed), found.classes_removed)
    if found.is_reordered:
        click.echo("classes have other labels in B: a model of A gives wrong names")
    for fact, before, after in found.facts:
        shown = (wording.size(int(value)) if fact == "sizeBytes" else value for value in (before, after))
        click.echo(f"{fact}: {' -> '.join(shown)}")
    _print_counts(found)
    if found.records is not None:
        _print_records(found.records)
    if found.is_same:
        click.echo("the same images, labels and splits" if found.records else "the same classes and counts")


def _print_counts(found: "diff_module.DatasetDiff") -> None:
    lines = [f"{each.split} {each.class_name}: {each.before:,} -> {each.after:,}" for each in found.counts]
    _print_some("counts differ", len(lines), lines)


def _print_records(records: "diff_records.RecordDiff") -> None:
    click.echo(f"images unchanged: {records.unchanged:,}")
    for kind, heading in _KINDS:
        named = getattr(records, kind)
        _print_some(heading, named.count, named.first)
        if kind == "moved":
            for (before, after), count in sorted(records.moves.items()):
                click.echo(f"  in all {before} -> {after}: {count:,}")
    _print_some("LEAK: images of A's train split are in B's test split", records.leaked.count, records.leaked.first)


def _print_some(heading: str, count: int, lines: "list[str] | tuple[str, ...]") -> None:
    if not count:
        return
    click.echo(f"{heading} ({count:,}):")
    for line in lines[:_MOST_SHOWN]:
        click.echo(f"  {line}")
    if count > _MOST_SHOWN:
        click.echo(f"  and {count - _MOST_SHOWN:,} more")
