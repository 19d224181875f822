"""`imagetrain run`."""

import datetime as dt
import os
import pathlib
import shlex
import sys
from typing import Any

import click
from rich import console as rich_console

from imagetrain_api import job as job_module
from imagetrain_api import names
from imagetrain_api.exit_codes import OUTCOMES, ExitCode
from imagetrain_client import manifests
from imagetrain_client.cli import failures, parameters
from imagetrain_client.display import artifacts, base, json_lines, live, plain, wording
from imagetrain_client.executor import events, folders, preflight, run_ids, runner
from imagetrain_trainer import errors
from imagetrain_trainer.publish import catalog, download

NEWEST = "newest"


@click.command(
    cls=parameters.Command,
    examples="""
    imagetrain run job.yaml
    imagetrain run job.yaml --workers 2 --set training.epochs=3
    imagetrain run job.yaml --deadline 2h
    imagetrain run job.yaml --resume
    imagetrain run job.yaml --resume 20261124-101500-x7k2
    imagetrain run job.yaml --json | jq .
    """,
)
@click.argument("file", metavar="JOB.YAML")
@click.option("--workers", type=click.IntRange(1, 256), help="Size of the worker group (spec.workers).")
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Override a setting of the manifest.")
@click.option(
    "--resume",
    is_flag=False,
    flag_value=NEWEST,
    metavar="[RUN]",
    help="Go on with a run that was stopped; without RUN, the newest unfinished one.",
)
@click.option("--deadline", type=parameters.Duration(), metavar="DURATION", help="Save and stop after so long.")
@click.option("--json", "is_json", is_flag=True, help="Write one JSON object a line instead of the display.")
@click.option(
    "--work-dir",
    type=click.Path(file_okay=False, path_type=pathlib.Path),
    help="Folder of the runs' logs and scratch files.  [default: ~/.cache/imagetrain/runs]",
)
def run(
    *,
    file: str,
    workers: int | None,
    overrides: tuple[str, ...],
    resume: str | None,
    deadline: float | None,
    is_json: bool,
    work_dir: pathlib.Path | None,
) -> None:
    """Train the job of a manifest in processes of this machine, and publish its models.

    Ctrl-C saves a checkpoint and stops; a second one stops at once. The exit status says what happened and is listed in
    docs/command-line.md.
    """
    if workers is not None:
        overrides = (*overrides, f"spec.workers={workers}")
    job = manifests.decode_manifest(manifests.read_manifest(file), overrides)
    root = (work_dir or folders.default_root(os.environ)).absolute()
    if unheeded := preflight.find_kubernetes_settings(job):
        click.echo(f"Only Kubernetes heeds {', '.join(unheeded)}; this run goes on without.", err=True)
    preflight.check_dataset(job)
    preflight.check_output(job)
    run_id = _choose_run(job, resume)
    folder = folders.RunFolder(root / run_id)
    request = runner.RunRequest(
        job=job,
        run_id=run_id,
        folder=folder,
        is_resumed=resume is not None,
        deadline_seconds=deadline,
        environment=dict(os.environ),
    )
    with folder.locked():
        ended = _run(request, is_json=is_json, resume_command=_resume_command(file, overrides, work_dir, run_id))
    if ended.exit_code is not ExitCode.DONE:
        raise failures.CommandEnd(ended.exit_code)


def _choose_run(job: job_module.ImageTrainingJob, resume: str | None) -> str:
    if resume is None:
        return run_ids.new_run_id(dt.datetime.now(dt.UTC))
    store = preflight.open_store(job.spec.output.uri, job.spec.s3)
    if resume == NEWEST:
        return preflight.find_run_to_resume(job, store)
    preflight.check_resumable(job, store, run_ids.check_run_id(resume))
    return resume


def _resume_command(file: str, overrides: tuple[str, ...], work_dir: pathlib.Path | None, run_id: str) -> str:
    words = ["imagetrain", "run", file]
    for override in overrides:
        words += ["--set", override]
    if work_dir is not None:
        words += ["--work-dir", str(work_dir)]
    return shlex.join([*words, "--resume", run_id])


def _run(request: runner.RunRequest, *, is_json: bool, resume_command: str) -> events.Ended:
    console = rich_console.Console(width=None if sys.stdout.isatty() else artifacts.PLAIN_WIDTH)
    display = _make_display(console, is_json=is_json)
    with display:
        ended = runner.run(request, display.show)
    published = _load_published(request, ended)
    if isinstance(display, json_lines.JsonDisplay):
        display.write_end(ended, _published_document(published, request.folder))
    elif published:
        _print_published(console, published, request.folder, ended)
    request.folder.clear_scratch()  # all that a resumed run needs lies under the output URI
    if ended.exit_code is not ExitCode.DONE:
        _explain_end(request, ended, resume_command)
    return ended


def _make_display(console: rich_console.Console, *, is_json: bool) -> base.Display:
    if is_json:
        return json_lines.JsonDisplay(sys.stdout)
    return live.LiveDisplay(console) if console.is_terminal else plain.PlainDisplay(sys.stdout)


def _load_published(request: runner.RunRequest, ended: events.Ended) -> catalog.LoadedManifest | None:
    if ended.exit_code not in (ExitCode.DONE, ExitCode.GATE_REFUSED):
        return None
    output = preflight.open_store(request.job.spec.output.uri, request.job.spec.s3)
    loaded = catalog.load_manifest(output, request.run_id)
    report = catalog.find_artifact(loaded.manifest, names.REPORT_KEY)
    with folders.translated(request.folder.path):
        download.fetch(output.child(names.run_prefix(request.run_id)), report, request.folder.report)
    return loaded


def _report_uri(loaded: catalog.LoadedManifest) -> str:
    return artifacts.artifact_uri(loaded, catalog.find_artifact(loaded.manifest, names.REPORT_KEY).path)


def _published_document(loaded: catalog.LoadedManifest | None, folder: folders.RunFolder) -> dict[str, Any]:
    if loaded is None:
        return {}
    return {
        **artifacts.as_document(loaded),
        "report": str(folder.report),
        "reportUri": _report_uri(loaded),
    }


def _print_published(
    console: rich_console.Console, loaded: catalog.LoadedManifest, folder: folders.RunFolder, ended: events.Ended
) -> None:
    artifacts.print_variants(console, loaded)
    restarts = "".join(f", {text}" for text in _count_restarts(ended))
    lines = (
        ("accuracy", f"{artifacts.test_accuracy(loaded.manifest)} (float model)"),
        ("time", wording.duration(ended.seconds) + restarts),
        ("models", artifacts.folder_uri(loaded)),
        ("report", str(folder.report)),
        ("", _report_uri(loaded)),
    )
    for label, value in lines:
        console.print(f"{label:<9} {value}", highlight=False, markup=False, soft_wrap=True)


def _explain_end(request: runner.RunRequest, ended: events.Ended, resume_command: str) -> None:
    if ended.exit_code is ExitCode.PREEMPTED:
        click.echo(
            f"{failures.PROGRAM}: stopped ({ended.message}). {_how_to_resume(request, resume_command)}", err=True
        )
        return
    rank = f"rank {ended.rank}, " if ended.rank is not None and request.job.spec.workers > 1 else ""
    advice = OUTCOMES[ended.exit_code]
    restarts = f" After {' and '.join(counts)}." if (counts := _count_restarts(ended)) else ""
    click.echo(f"{failures.PROGRAM}: {rank}{ended.reason}: {ended.message}{restarts} Log: {ended.log}", err=True)
    if advice.is_retryable:
        click.echo(f"{advice.advice} {_how_to_resume(request, resume_command)}", err=True)


def _how_to_resume(request: runner.RunRequest, resume_command: str) -> str:
    try:
        store = preflight.open_store(request.job.spec.output.uri, request.job.spec.s3)
        if preflight.find_owner(store, request.run_id) is None:
            return "No checkpoint was saved yet: run it again."
    except errors.TrainerError:
        pass  # the store is away: say how to resume when it is back
    return f"Resume: {resume_command}"


def _count_restarts(ended: events.Ended) -> list[str]:
    counts = []
    if ended.restarts:
        counts.append(f"{ended.restarts} restart{'s' if ended.restarts > 1 else ''}")
    if ended.recoveries:
        counts.append(f"{ended.recoveries} {'recoveries' if ended.recoveries > 1 else 'recovery'} in place")
    return counts
