"""`imagetrain models`: what is published under an output URI."""

import json
import pathlib
import sys
from typing import Any

import click
from rich import box, progress, table
from rich import console as rich_console

from imagetrain_api import job, schema
from imagetrain_client.cli import parameters
from imagetrain_client.display import artifacts, wording
from imagetrain_trainer.publish import catalog
from imagetrain_trainer.publish import download as download_module
from imagetrain_trainer.storage import store as store_module


@click.group(
    cls=parameters.Group,
    examples="""
    imagetrain models list s3://models/photos/
    imagetrain models show s3://models/photos/
    imagetrain models download s3://models/photos/ --format tflite_int8
    """,
)
def models() -> None:
    """List, show and download published models. URI is the output.uri of a job."""


@models.command("list", cls=parameters.Command, examples="imagetrain models list s3://models/photos/")
@click.argument("uri")
@click.option("--json", "is_json", is_flag=True, help="Write one JSON document.")
def list_models(uri: str, *, is_json: bool) -> None:
    """List the published runs at URI, newest first."""
    runs = catalog.list_runs(store_module.open_store(uri))
    if is_json:
        click.echo(json.dumps([_run_document(run) for run in runs], indent=1))
        return
    if not runs:
        click.echo(f"{uri} holds no published run.")
        return
    rows = table.Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("run", "job", "created", "architecture", "formats"):
        rows.add_column(heading)
    rows.add_column("accuracy", justify="right")
    rows.add_column("size", justify="right")
    for run in runs:
        mark = " (latest)" if run.is_latest else ""
        formats = ", ".join([*run.formats, *(f"{name} (refused)" for name in run.refused)])
        cells = (run.job, run.created_at, run.architecture, formats or run.problem)
        accuracy = wording.percent(run.accuracy)
        rows.add_row(f"{run.run_id}{mark}", *cells, accuracy, wording.size(run.size_bytes))
    _make_console().print(rows)


@models.command(
    cls=parameters.Command,
    examples="""
    imagetrain models show s3://models/photos/
    imagetrain models show s3://models/photos/ 20261124-101500-x7k2 --json
    """,
)
@click.argument("uri")
@click.argument("run", default=catalog.LATEST)
@click.option("--json", "is_json", is_flag=True, help="Write the manifest.")
def show(uri: str, run: str, *, is_json: bool) -> None:
    """Show the models of RUN (default: the latest), measured on the test split."""
    loaded = catalog.load_manifest(store_module.open_store(uri), run)
    if is_json:
        click.echo(json.dumps(schema.encode(loaded.manifest), indent=1))
        return
    manifest = loaded.manifest
    console = _make_console()
    height, width, channels = manifest.input_shape
    lines = (
        ("run", manifest.run_id),
        ("job", f"{manifest.namespace}/{manifest.job}"),
        ("created", f"{manifest.created_at} by imagetrain {manifest.imagetrain_version}"),
        ("network", f"{manifest.architecture}, {height} x {width} x {channels}, {len(manifest.classes)} classes"),
        ("data", f"{manifest.dataset.get('uri')} ({manifest.dataset.get('digest')})"),
        ("accuracy", f"{artifacts.test_accuracy(manifest)} (float model)"),
        ("models", artifacts.folder_uri(loaded)),
    )
    for label, value in lines:
        console.print(f"{label:<9} {value}", highlight=False, markup=False, soft_wrap=True)
    artifacts.print_variants(console, loaded)


@models.command(
    cls=parameters.Command,
    examples="""
    imagetrain models download s3://models/photos/
    imagetrain models download s3://models/photos/ 20261124-101500-x7k2 --format tflite_int8 --to phone/
    """,
)
@click.argument("uri")
@click.argument("run", default=catalog.LATEST)
@click.option(
    "--format", "formats", multiple=True, type=click.Choice(job.FORMATS), help="A format to download.  [default: all]"
)
@click.option(
    "--to",
    "destination",
    type=click.Path(file_okay=False, path_type=pathlib.Path),
    help="Folder to make.  [default: one named by the run]",
)
def download(uri: str, run: str, *, formats: tuple[str, ...], destination: pathlib.Path | None) -> None:
    """Download the models of RUN (default: the latest) with labels, card and report, checked byte for byte."""
    output = store_module.open_store(uri)
    loaded = catalog.load_manifest(output, run)
    target = destination or pathlib.Path(loaded.manifest.run_id)
    bar = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=32),
        progress.DownloadColumn(),
        console=rich_console.Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task("", total=None)
        download_module.download(
            output,
            loaded,
            target,
            formats or None,
            lambda name, done, total: bar.update(task, description=name, completed=done, total=total),
        )
    click.echo(f"{target}: {', '.join(formats or catalog.published_formats(loaded.manifest))}")


def _make_console() -> rich_console.Console:
    return rich_console.Console(width=None if sys.stdout.isatty() else artifacts.PLAIN_WIDTH)


def _run_document(run: catalog.RunSummary) -> dict[str, Any]:
    return {
        "runId": run.run_id,
        "job": run.job,
        "createdAt": run.created_at,
        "architecture": run.architecture,
        "accuracy": run.accuracy,
        "sizeBytes": run.size_bytes,
        "formats": list(run.formats),
        "refused": list(run.refused),
        "isLatest": run.is_latest,
        "uri": run.uri,
        "problem": run.problem,
    }
