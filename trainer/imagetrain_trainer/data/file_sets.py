"""Sets of large files that hold many images each: a file, a folder, a glob pattern or an s3:// prefix."""

import fnmatch
import pathlib
from collections.abc import Callable

from imagetrain_trainer import errors
from imagetrain_trainer.data import given_splits, source_files

_WILD = frozenset("*?[")


def is_pattern(place: str) -> bool:
    """Tell whether a place is a glob pattern and not a file that is so called."""
    return bool(_WILD.intersection(place)) and (source_files.is_s3(place) or not pathlib.Path(place).exists())


class FileSet:
    """Files below one root, sorted by name, and the split that each one's name gives it.

    Attributes:
        root: the folder or prefix that names start from.
        names: of the files.
        splits: of each file, in the same order.
        others: names of files that are not of the kind sought.
    """

    def __init__(
        self, place: str, files: source_files.SourceFiles, is_wanted: Callable[[str], bool], what: str
    ) -> None:
        """List the files.

        Args:
            place: file, folder, pattern or prefix.
            files: reads it.
            is_wanted: tells by its name whether a file of a folder is of the kind.
            what: the kind, for messages.

        Raises:
            errors.ConfigError: there are none.
        """
        pattern = place if is_pattern(place) else None
        if pattern is not None:
            self.root, found = _match(pattern, files)
        elif source_files.is_s3(place) or pathlib.Path(place).is_dir():
            self.root, found = place, list(files.walk(place))
        else:
            found = []
        if not found and pattern is None and not pathlib.Path(place).is_dir():  # one file or object
            files.size(place)  # raises where there is none
            self.root, name = source_files.split(place)
            found = [name]
        self.names = [name for name in found if pattern is not None or len(found) == 1 or is_wanted(name)]
        self.others = sorted(set(found) - set(self.names))
        if not self.names:
            raise errors.ConfigError(f"source must hold {what}, and {place!r} holds none.")
        given = [given_splits.find_in_path(name) for name in self.names]
        self.splits = [given_splits.settle(split, frozenset(given)) for split in given]

    def place(self, name: str) -> str:
        """Return the place of a file of the set."""
        return source_files.join(self.root, name)


def _match(pattern: str, files: source_files.SourceFiles) -> tuple[str, list[str]]:
    """Return the folder before the first wildcard, and the files below it that match, in sorted order."""
    first = min(pattern.find(mark) for mark in _WILD if mark in pattern)
    root = pattern[:first].rpartition("/")[0]
    rest = pattern[len(root) :].lstrip("/")
    if source_files.is_s3(pattern):
        if root in ("s3:", "s3:/"):
            raise errors.ConfigError(f"source must name its bucket without wildcards, got {pattern!r}.")
        depth = rest.count("/")
        found = [name for name in files.walk(root) if name.count("/") == depth and fnmatch.fnmatchcase(name, rest)]
        return root, found
    root = root or ("/" if pattern.startswith("/") else ".")
    return root, sorted(path.relative_to(root).as_posix() for path in pathlib.Path(root).glob(rest) if path.is_file())
