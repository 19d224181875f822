"""Entry point `imagetrain`: finds the command, and turns errors into one line and an exit status.

A command's module is imported when that command is used, so that `imagetrain --help` answers at once.
"""

import importlib
import importlib.metadata
import os
import sys
import traceback
from typing import NoReturn

import click

from imagetrain_client.cli import failures, parameters

# Command -> (module.attribute, one line for `imagetrain --help`).
_COMMANDS = {
    "validate": ("validate.validate", "Check manifests, and show them with all defaults."),
    "run": ("run.run", "Train a job in processes of this machine."),
    "data": ("data.data", "Pack images into a data set, check it, and look into it."),
    "models": ("models.models", "List, show and download published models."),
    "checkpoints": ("checkpoints.checkpoints", "List, verify and export the saved states of a run."),
    "predict": ("predict.predict", "Classify images with a published model."),
}
_EXAMPLES = """
imagetrain data pack photos/ s3://datasets/photos/
imagetrain validate job.yaml
imagetrain run job.yaml --workers 2
imagetrain models list s3://models/photos/
imagetrain predict s3://models/photos/ cat.jpg
"""


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(".")
        command = getattr(importlib.import_module(f"imagetrain_client.cli.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in _COMMANDS.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        parameters.write_examples(_EXAMPLES, formatter)


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    if value:
        click.echo(f"imagetrain {importlib.metadata.version('imagetrain')}")
        ctx.exit()


@click.group(cls=_LazyGroup, params=[parameters.debug_option()], context_settings={"max_content_width": 120})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, help="Show the version.", callback=_print_version
)
def cli() -> None:
    """Train image classifiers from images in S3 to SavedModel and TensorFlow Lite."""


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run one command line, print its error if it has one, and return the exit status."""
    debug: list[bool] = []
    try:
        with cli.make_context(failures.PROGRAM, list(arguments)) as ctx:
            try:
                cli.invoke(ctx)
            finally:
                debug.append(parameters.DEBUG_KEY in ctx.meta)
        sys.stdout.flush()
    except (click.exceptions.Exit, failures.CommandEnd) as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("imagetrain: interrupted.", err=True)
        return failures.INTERRUPTED_STATUS
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return failures.INTERRUPTED_STATUS
    except Exception as error:  # noqa: BLE001 - the outermost edge: every error becomes a line and a status
        return _report(error, is_debugging=any(debug))
    return 0


def _report(error: Exception, *, is_debugging: bool) -> int:
    if is_debugging:
        traceback.print_exception(error)
    status, lines = failures.describe(error)
    click.echo(f"{failures.PROGRAM}: {lines[0]}", err=True)
    for line in lines[1:]:
        click.echo(line, err=True)
    return status


if __name__ == "__main__":
    main()
