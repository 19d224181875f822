"""Errors of the command beside those of the trainer (`imagetrain_trainer.errors`)."""

from collections.abc import Sequence

from imagetrain_trainer import errors


class InvalidManifestError(errors.ConfigError):
    """A manifest breaks one or more rules; `lines` has a line of text for each."""

    def __init__(self, source: str, lines: Sequence[str]) -> None:
        super().__init__(f"{source} has {len(lines)} error{'s' if len(lines) > 1 else ''}:")
        self.lines = tuple(lines)
