"""Parameter types and classes that the commands share."""

from typing import Any

import click

from imagetrain_api import quantities

DEBUG_KEY = "imagetrain.debug"


class Duration(click.ParamType[Any]):
    """A duration such as `90s` or `1h30m`, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401 - click's signature
        """Return the seconds."""
        if isinstance(value, float):
            return value
        try:
            seconds = quantities.parse_duration(value)
        except ValueError as error:
            self.fail(f"must be {error}, got {value!r}.", param, ctx)
        if seconds <= 0:
            self.fail(f"must be longer than 0s, got {value!r}.", param, ctx)
        return seconds


class Ratios(click.ParamType[Any]):
    """Three shares `train:validation:test` such as `3:1:1`."""

    name = "train:validation:test"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:  # noqa: ANN401 - click's signature
        """Return the three shares."""
        if isinstance(value, tuple):
            return value
        try:
            train, validation, test = (float(part) for part in value.split(":"))
        except ValueError:
            self.fail(f"must be three shares such as 3:1:1, got {value!r}.", param, ctx)
        return (train, validation, test)


class Size(click.ParamType[Any]):
    """A number of bytes as a Kubernetes quantity such as `64Mi`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401 - click's signature
        """Return the bytes."""
        if isinstance(value, int):
            return value
        try:
            size_bytes = quantities.parse_quantity(value)
        except ValueError as error:
            self.fail(f"must be {error}, got {value!r}.", param, ctx)
        if size_bytes < 1 or size_bytes % 1:
            self.fail(f"must be at least one whole byte, got {value!r}.", param, ctx)
        return int(size_bytes)


class ImageSize(click.ParamType[Any]):
    """Height and width in pixels such as `224x224`."""

    name = "heightxwidth"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:  # noqa: ANN401 - click's signature
        """Return height and width."""
        if isinstance(value, tuple):
            return value
        try:
            height, width = (int(part) for part in value.lower().split("x"))
        except ValueError:
            height = width = 0
        if min(height, width) < 1:
            self.fail(f"must be height x width in pixels such as 224x224, got {value!r}.", param, ctx)
        return (height, width)


class Command(click.Command):
    """A command with `--debug` and, below its options, examples that keep their lines."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:  # noqa: ANN401 - click's signature
        super().__init__(*args, **kwargs)
        self._examples = examples
        self.params.append(debug_option())

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        del ctx
        write_examples(self._examples, formatter)


class Group(click.Group):
    """A group of commands with `--debug` and examples."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:  # noqa: ANN401 - click's signature
        super().__init__(*args, **kwargs)
        self._examples = examples
        self.params.append(debug_option())

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        del ctx
        write_examples(self._examples, formatter)


def write_examples(examples: str, formatter: click.HelpFormatter) -> None:
    """Write the examples of a help text, line by line."""
    if examples:
        with formatter.section("Examples"):
            for line in examples.strip().splitlines():
                formatter.write(f"  {line.strip()}\n" if line.strip() else "\n")


def debug_option() -> click.Option:
    """Make the option that shows tracebacks; it is understood before and behind the command's name."""
    return click.Option(
        ["--debug"],
        is_flag=True,
        expose_value=False,
        help="Show the traceback of an error.",
        callback=_note_debug,
    )


def is_debugging() -> bool:
    """Tell whether the running command was given `--debug`."""
    return DEBUG_KEY in click.get_current_context().find_root().meta


def _note_debug(ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    if value:
        ctx.find_root().meta[DEBUG_KEY] = True
