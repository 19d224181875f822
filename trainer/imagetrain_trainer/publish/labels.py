"""labels.txt: class names in the order of the outputs, one a line, UTF-8."""

import pathlib
from collections.abc import Sequence

from imagetrain_trainer import errors


def format_labels(classes: Sequence[str]) -> str:
    """Return the content of labels.txt.

    Raises:
        ConfigError: a name has a line break, so that the file would name other classes.
    """
    for name in classes:
        if "\n" in name or "\r" in name:
            raise errors.ConfigError(
                f"class name must be one line, got {name[:80]!r}. Pack the data set with other names."
            )
    return "".join(f"{name}\n" for name in classes)


def read_labels(path: pathlib.Path) -> tuple[str, ...]:
    """Return the class names of a labels.txt; raises OSError (unreadable) or ValueError (not UTF-8)."""
    # Not splitlines(), which also breaks at U+2028 and the like, and so inside names.
    lines = path.read_bytes().decode("utf-8").split("\n")
    return tuple(line.removesuffix("\r") for line in lines[: None if lines[-1] else -1])
