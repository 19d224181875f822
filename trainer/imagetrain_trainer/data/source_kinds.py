"""Which kind of source a path is."""

import pathlib

from imagetrain_trainer import errors
from imagetrain_trainer.data import npz_source, sources, tree_source


def open_source(path: pathlib.Path, channels: int | None = None) -> sources.ItemSource:
    """Open a class-per-folder tree or an .npz file.

    Args:
        path: folder or file.
        channels: see `images.read_image`.

    Raises:
        errors.ConfigError: it is neither, or breaks a rule; the message names the file or array and the rule.
    """
    if path.is_dir():
        return tree_source.TreeSource(path, channels)
    if not path.exists():
        raise errors.ConfigError(f"source must be a folder or an .npz file, but {str(path)!r} does not exist.")
    if path.suffix.lower() != ".npz":
        raise errors.ConfigError(
            f"source must be a folder with a folder per class, or an .npz file, got {str(path)!r}."
        )
    return npz_source.NpzSource(path, channels)
