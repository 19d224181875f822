"""`imagetrain data verify`: check every byte and record of a data set."""

import json
import sys
from typing import TYPE_CHECKING

import click
from rich import console as rich_console
from rich import progress

from imagetrain_api import exit_codes
from imagetrain_client.cli import failures, parameters
from imagetrain_client.display import wording

if TYPE_CHECKING:
    from imagetrain_trainer.data import verify as verify_module

_MOST_UNLISTED = 3
_HEADINGS = {
    "description": "dataset.json is damaged",
    "missing": "objects are missing",
    "extra": "objects should not be there",
    "size": "shards have the wrong size",
    "checksum": "shards do not match their checksums",
    "index": "indexes or entries do not fit their shards",
    "record": "records are damaged",
    "label": "labels are wrong",
    "image": "images are wrong",
    "counts": "counts are wrong",
}


@click.command(
    cls=parameters.Command,
    examples="""
    imagetrain data verify s3://datasets/photos/v3/
    imagetrain data verify s3://datasets/photos/latest --all-images
    imagetrain data verify /srv/datasets/photos --json
    """,
)
@click.argument("uri")
@click.option(
    "--sample", type=click.IntRange(0), default=256, show_default=True, help="Images to decode, drawn evenly."
)
@click.option("--all-images", is_flag=True, help="Decode every image.")
@click.option("--json", "is_json", is_flag=True, help="Write one JSON document.")
def verify(uri: str, *, sample: int, all_images: bool, is_json: bool) -> None:
    """Check the data set at URI: every byte, every record, and that a sample of the images decodes.

    All defects are told, the first 20 of each kind with their shard and record. Exits with 101 when there is one.
    """
    from imagetrain_trainer.data import verify as verify_module

    options = verify_module.VerifyOptions(sample=None if all_images else sample)
    with _make_bar() as bar:
        task = bar.add_task("verifying", total=None)
        report = verify_module.verify(uri, options, lambda done, total: bar.update(task, completed=done, total=total))
    if is_json:
        click.echo(json.dumps(report.as_json(), indent=1))
    else:
        _print_report(report)
    if not report.is_whole:
        raise failures.CommandEnd(exit_codes.ExitCode.DATA_CORRUPT)


def _make_bar() -> progress.Progress:
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=32),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=rich_console.Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def _print_report(report: "verify_module.VerifyReport") -> None:
    found = report.defects
    for kind, heading in _HEADINGS.items():
        count = found.count(kind)
        if not count:
            continue
        click.echo(f"{heading} ({count:,}):")
        for defect in found.named(kind):
            click.echo(f"  {defect}")
        if count > len(found.named(kind)):
            click.echo(f"  and {count - len(found.named(kind)):,} more")
    if report.unlisted_count:
        click.echo(f"no part of it ({report.unlisted_count:,}): {', '.join(report.unlisted[:_MOST_UNLISTED])}")
    read = (
        f"{report.objects:,} objects, {report.records:,} records, {wording.size(report.size_bytes)}, "
        f"{report.images:,} images decoded"
    )
    verdict = "whole" if report.is_whole else f"{found.total:,} defect{'s' if found.total > 1 else ''}"
    click.echo(f"{report.uri} ({report.digest or 'no digest'}): {verdict}; checked {read}")
