"""A folder that holds one folder of images per class."""

import os
import pathlib
from collections.abc import Iterator

from imagetrain_trainer import errors
from imagetrain_trainer.data import images, sources

_SPLIT_NAMES = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
_IGNORED_NAMES = frozenset({"Thumbs.db", "desktop.ini", "__MACOSX"})


class TreeSource(sources.ItemSource):
    """Images at `class name/any/depth/file`; hidden files are passed over, and class names sort by code point."""

    def __init__(self, root: pathlib.Path, channels: int | None) -> None:
        """List the tree.

        Args:
            root: the folder.
            channels: see `images.read_image`.

        Raises:
            errors.ConfigError: it breaks a rule; the message names the folder or file.
        """
        self._root = root
        self._channels = channels
        self.name = root.resolve().name
        folders, files = _list(root)
        self.ignored = tuple(_check_loose_files(root, files))
        self.class_names = tuple(_check_class_folders(root, folders))
        keys = sorted(
            (label, key) for label, name in enumerate(self.class_names) for key in _find_files(root, root / name)
        )
        self.items = [sources.Item(key, label, None, position) for position, (label, key) in enumerate(keys)]
        labels = {item.label for item in self.items}
        for label, name in enumerate(self.class_names):
            if label not in labels:
                raise errors.ConfigError(f"class folder {str(root / name)!r} must hold images, and it is empty.")

    def read(self, item: sources.Item) -> images.StoredImage:
        """Read and decode one file."""
        data = self._read_bytes(item)
        try:
            return images.read_image(data, self._channels)
        except errors.ConfigError as e:
            raise errors.ConfigError(f"{str(self._root / item.key)!r} {e}.") from e

    def read_payload(self, item: sources.Item, *, is_kept: bool) -> bytes:
        """Return a file's own bytes, or what it is converted to."""
        return self._read_bytes(item) if is_kept else self.read(item).payload

    def _read_bytes(self, item: sources.Item) -> bytes:
        path = self._root / item.key
        try:
            return path.read_bytes()
        except OSError as e:
            raise errors.ConfigError(f"{str(path)!r} must be readable ({e.strerror}).") from e


def _list(folder: pathlib.Path) -> tuple[list[str], list[str]]:
    """Return the sorted names of the folders and files in a folder, without hidden ones."""
    try:
        entries = [e for e in os.scandir(folder) if not e.name.startswith(".") and e.name not in _IGNORED_NAMES]
        folders = sorted(entry.name for entry in entries if entry.is_dir())
        return folders, sorted(entry.name for entry in entries if not entry.is_dir())
    except OSError as e:
        raise errors.ConfigError(f"folder {str(folder)!r} must be readable ({e.strerror}).") from e


def _check_loose_files(root: pathlib.Path, names: list[str]) -> Iterator[str]:
    for name in names:
        if pathlib.PurePath(name).suffix.lower() in images.SUFFIXES:
            raise errors.ConfigError(f"image {str(root / name)!r} must lie in the folder of its class.")
        yield name


def _check_class_folders(root: pathlib.Path, names: list[str]) -> list[str]:
    if len(names) > 1 and all(name.lower() in _SPLIT_NAMES for name in names):
        raise errors.ConfigError(
            f"source must hold one folder per class, and {str(root)!r} holds splits ({', '.join(names)}). "
            "Merge them into one folder per class: packing splits by itself."
        )
    if len(names) < 2:
        raise errors.ConfigError(
            f"source must hold the folders of at least 2 classes, and {str(root)!r} holds {len(names)}."
        )
    for name in names:
        if not name.isprintable():
            raise errors.ConfigError(f"class folder {name!r} in {str(root)!r} must have a printable name.")
    return names


def _find_files(root: pathlib.Path, folder: pathlib.Path) -> Iterator[str]:
    folders, files = _list(folder)
    for name in files:
        yield (folder / name).relative_to(root).as_posix()
    for name in folders:
        yield from _find_files(root, folder / name)
