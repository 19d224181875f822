"""A folder, or an s3:// prefix, that holds one folder of images per class."""

import itertools
import pathlib
from collections.abc import Iterator

from imagetrain_trainer import errors
from imagetrain_trainer.data import given_splits, images, source_files, sources

_MOST_LOOKED_AT = 1000
_LISTS = (".csv", ".tsv", ".jsonl")


class TreeSource(sources.Source):
    """Images at `class name/any/depth/file`, or below `train/`, `val/` and `test/`, which are then the given splits.

    Hidden files are passed over, and class names sort by code point.
    """

    class_names: tuple[str, ...]

    def __init__(self, root: str, files: source_files.SourceFiles | None = None) -> None:
        """Look at the uppermost folders.

        Args:
            root: the folder or s3:// prefix.
            files: reads it.

        Raises:
            errors.ConfigError: it breaks a rule; the message names the folder.
        """
        self._root = root
        self._files = files or source_files.SourceFiles()
        self.name = source_files.base_name(root)
        self.concurrent_reads = source_files.CONCURRENT_READS if source_files.is_s3(root) else 1
        folders = self._files.folders(root)
        self._splits = {name: split for name in folders if (split := given_splits.find(name)) is not None}
        if len(folders) < 2 or len(self._splits) < len(folders):
            self._splits = {}
        self._check_splits()
        parts = {name: self._files.folders(self._place(name)) for name in self._splits} or {"": folders}
        self._class_folders = [f"{part}/{name}".lstrip("/") for part, names in parts.items() for name in names]
        self.class_names = tuple(sorted({name for names in parts.values() for name in names}))
        self._check_class_folders(parts)

    def entries(self) -> Iterator[sources.Entry]:
        """Yield the files in the order of their paths."""
        present: frozenset[str | None] = frozenset(self._splits.values())
        filled: set[str] = set()
        self.ignored, self.ignored_count = (), 0
        for file in self._files.walk(self._root):
            top, _, rest = file.partition("/")
            split = self._splits.get(top)
            class_name, _, name = rest.partition("/") if self._splits else (top, "", rest)
            if not name:
                self._pass_over(file)
                continue
            filled.add(f"{top}/{class_name}" if self._splits else class_name)
            yield sources.Entry(file, class_name, given_splits.settle(split, present), None, file)
        for folder in self._class_folders:
            if folder not in filled:
                raise errors.ConfigError(f"class folder {self._place(folder)!r} must hold images, and it is empty.")

    def read(self, locator: str) -> bytes:
        """Return a file's bytes."""
        return self._files.read(self._place(locator))

    def describe(self, locator: str) -> str:
        """Return a file's quoted place."""
        return repr(self._place(locator))

    def _place(self, name: str) -> str:
        return source_files.join(self._root, name)

    def _pass_over(self, name: str) -> None:
        if pathlib.PurePosixPath(name).suffix.lower() in images.SUFFIXES:
            raise errors.ConfigError(f"image {self._place(name)!r} must lie in the folder of its class.")
        self.ignored_count += 1
        if self.ignored_count <= sources.MAX_IGNORED_NAMES:
            self.ignored += (name,)

    def _check_splits(self) -> None:
        given = list(self._splits.values())
        if len(set(given)) < len(given):
            raise errors.ConfigError(
                f"source must hold one folder per split, and {self._root!r} holds {', '.join(sorted(self._splits))}."
            )
        if self._splits and given_splits.TRAIN not in given:
            raise errors.ConfigError(
                f"source must hold a train folder beside its others, and {self._root!r} holds "
                f"{', '.join(sorted(self._splits))}."
            )

    def _point_at_list(self) -> str:
        """Return a hint when there is a list among the first files: many sets come as one beside a folder of images."""
        for name in itertools.islice(self._files.walk(self._root), _MOST_LOOKED_AT):
            if "/" not in name and name.lower().endswith(_LISTS):
                return f" If {name} has the classes, pack {self._place(name)!r} itself."
        return ""

    def _check_class_folders(self, parts: dict[str, list[str]]) -> None:
        if len(self.class_names) < 2:
            raise errors.ConfigError(
                f"source must hold the folders of at least 2 classes, and {self._root!r} holds {len(self.class_names)}."
                f"{self._point_at_list()}"
            )
        trained = set(next((parts[name] for name, split in self._splits.items() if split == given_splits.TRAIN), ()))
        for part, names in parts.items():
            place = self._place(part) if part else self._root
            for name in names:
                if not name.isprintable():
                    raise errors.ConfigError(f"class folder {name!r} in {place!r} must have a printable name.")
                if trained and name not in trained:
                    raise errors.ConfigError(f"class folder {name!r} in {place!r} must be in the train folder too.")
