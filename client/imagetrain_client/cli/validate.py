"""`imagetrain validate`."""

import click
import yaml

from imagetrain_api import job as job_module
from imagetrain_api import schema
from imagetrain_api.exit_codes import ExitCode
from imagetrain_client import manifests
from imagetrain_client.cli import failures, parameters
from imagetrain_trainer import errors


@click.command(
    cls=parameters.Command,
    examples="""
    imagetrain validate job.yaml
    imagetrain validate jobs/*.yaml
    imagetrain validate job.yaml --print --set training.epochs=3
    """,
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Override a setting of every file.")
@click.option("--print", "is_printing", is_flag=True, help="Print each valid manifest with all its defaults.")
def validate(files: tuple[str, ...], overrides: tuple[str, ...], is_printing: bool) -> None:  # noqa: FBT001 - click's call
    """Check ImageTrainingJob manifests and report every broken rule, with its line.

    FILE may be - for standard input. Nothing is read but the files: whether the data set is there and the architecture
    exists shows when the job runs.
    """
    worst = ExitCode.DONE
    for file in files:
        try:
            job = manifests.decode_manifest(manifests.read_manifest(file), overrides)
        except errors.TrainerError as error:
            worst = error.exit_code
            for line in failures.describe(error)[1]:
                click.echo(line, err=True)
            continue
        if is_printing:
            click.echo("---\n" * (len(files) > 1) + normalised(job), nl=False)
        else:
            click.echo(f"{file}: valid ({_summary(job)})")
    if worst is not ExitCode.DONE:
        raise failures.CommandEnd(worst)


def normalised(job: job_module.ImageTrainingJob) -> str:
    """Return a job as YAML with every default filled in."""
    return yaml.safe_dump(schema.encode(job), sort_keys=False, allow_unicode=True)


def _summary(job: job_module.ImageTrainingJob) -> str:
    spec = job.spec
    workers = f"{spec.workers} worker{'s' if spec.workers > 1 else ''}"
    return f"{job.metadata.name}: {spec.model.architecture}, {workers}, {spec.training.epochs} epochs"
