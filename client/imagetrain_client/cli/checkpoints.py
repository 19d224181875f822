"""`imagetrain checkpoints`: the saved states of a run."""

import datetime as dt
import json
import pathlib
import sys
from typing import Any

import click
from rich import box, table
from rich import console as rich_console

from imagetrain_api import exit_codes
from imagetrain_client.cli import failures, parameters
from imagetrain_client.display import artifacts, wording
from imagetrain_trainer.storage import store as store_module
from imagetrain_trainer.training import checkpoint_tools

_RUN_OPTION = click.option("--run", help="Run to look at.  [default: the newest with a checkpoint]")


@click.group(
    cls=parameters.Group,
    examples="""
    imagetrain checkpoints list s3://models/photos/
    imagetrain checkpoints verify s3://models/photos/
    imagetrain checkpoints export s3://models/photos/ newest weights.safetensors
    """,
)
def checkpoints() -> None:
    """List, verify and export the saved states of a run. URI is the output.uri of a job."""


@checkpoints.command("list", cls=parameters.Command, examples="imagetrain checkpoints list s3://models/photos/")
@click.argument("uri")
@_RUN_OPTION
@click.option("--json", "is_json", is_flag=True, help="Write one JSON document.")
def list_checkpoints(uri: str, run: str | None, *, is_json: bool) -> None:
    """List the complete checkpoints of a run, oldest first."""
    output = store_module.open_store(uri)
    run_id = checkpoint_tools.find_run(output, run)
    found = list(checkpoint_tools.list_checkpoints(checkpoint_tools.open_checkpoints(output, run_id)))
    if is_json:
        click.echo(json.dumps({"run": run_id, "checkpoints": [_document(each) for each in found]}, indent=1))
        return
    rows = table.Table(box=box.SIMPLE_HEAD, pad_edge=False, title=f"run {run_id}", title_justify="left")
    rows.add_column("step", justify="right")
    rows.add_column("generation", justify="right")
    for heading in ("saved", "workers", "objects", "size", "note"):
        rows.add_column(heading, justify="right" if heading in ("workers", "objects", "size") else "left")
    for each in found:
        rows.add_row(*_cells(each))
    rich_console.Console(width=None if sys.stdout.isatty() else artifacts.PLAIN_WIDTH).print(rows)


@checkpoints.command(cls=parameters.Command, examples="imagetrain checkpoints verify s3://models/photos/")
@click.argument("uri")
@_RUN_OPTION
def verify(uri: str, run: str | None) -> None:
    """Read every checkpoint of a run and compare it with its digests."""
    output = store_module.open_store(uri)
    saved = checkpoint_tools.open_checkpoints(output, checkpoint_tools.find_run(output, run))
    damaged = 0
    for found in checkpoint_tools.verify_checkpoints(saved):
        damaged += bool(found.problem)
        click.echo(f"step {found.place.step}: {found.problem or 'whole'}")
    if damaged:
        raise failures.CommandEnd(exit_codes.ExitCode.DATA_CORRUPT)


@checkpoints.command(
    cls=parameters.Command,
    examples="""
    imagetrain checkpoints export s3://models/photos/ newest weights.safetensors
    imagetrain checkpoints export s3://models/photos/ 1200 weights.npz
    """,
)
@click.argument("uri")
@click.argument("step")
@click.argument("dest", type=click.Path(dir_okay=False, path_type=pathlib.Path))
@_RUN_OPTION
def export(uri: str, step: str, dest: pathlib.Path, run: str | None) -> None:
    """Write the model's weights of a checkpoint to DEST (.safetensors or .npz). STEP is a number or `newest`."""
    output = store_module.open_store(uri)
    saved = checkpoint_tools.open_checkpoints(output, checkpoint_tools.find_run(output, run))
    checkpoint = checkpoint_tools.load(saved, step)
    count = checkpoint_tools.export_weights(checkpoint, dest)
    click.echo(f"{dest}: {count} variables of step {checkpoint.step}")


def _cells(found: checkpoint_tools.Found) -> tuple[str, ...]:
    note = found.problem or ("" if found.counts else "given up: a later generation went on from an earlier step")
    place, manifest = found.place, found.manifest
    generation = str(place.generation) if place.generation else "-"
    if manifest is None:
        return (str(place.step), generation, "-", "-", "-", "-", note)
    saved = "-"
    if manifest.created_at:
        saved = dt.datetime.fromtimestamp(manifest.created_at, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
    size = wording.size(manifest.size_bytes)
    return (str(place.step), generation, saved, str(manifest.workers), str(len(manifest.shards)), size, note)


def _document(found: checkpoint_tools.Found) -> dict[str, Any]:
    manifest = found.manifest
    return {
        "step": found.place.step,
        "generation": found.place.generation,
        "savedAt": manifest.created_at if manifest else None,
        "workers": manifest.workers if manifest else None,
        "objects": len(manifest.shards) if manifest else None,
        "sizeBytes": manifest.size_bytes if manifest else None,
        "counts": found.counts,
        "problem": found.problem,
    }
