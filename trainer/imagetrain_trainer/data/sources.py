"""Where packing takes images from: a folder per class, or the arrays of an .npz file."""

import abc
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from imagetrain_trainer import errors
from imagetrain_trainer.data import images


class Item(NamedTuple):
    """One image of a source.

    Attributes:
        key: its name in the source, unique, such as `cats/001.jpg` or `x_train[7]`; it becomes image/key.
        label: index into the class names.
        given_split: the split that the source puts it in, or None when packing may choose.
        position: where the source finds it again.
    """

    key: str
    label: int
    given_split: str | None
    position: int


class Source(abc.ABC):
    """Labelled images. `read` may be called from several threads.

    Attributes:
        name: default name of the data set.
        class_names: in label order.
        items: sorted by key or array index, never by the order of a folder listing.
        ignored: names of files that are no images and were left out.
    """

    name: str
    class_names: tuple[str, ...]
    items: Sequence[Item]
    ignored: tuple[str, ...] = ()

    @abc.abstractmethod
    def read(self, item: Item) -> images.StoredImage:
        """Read and decode one image.

        Raises:
            errors.ConfigError: it is refused; the message names the image and the rule.
        """

    @abc.abstractmethod
    def read_payload(self, item: Item, *, is_kept: bool) -> bytes:
        """Return the bytes to store for one image; `is_kept` says that those are the source's own, to skip decoding."""


def open_source(path: pathlib.Path, channels: int | None = None) -> Source:
    """Open a class-per-folder tree or an .npz file.

    Args:
        path: folder or file.
        channels: see `images.read_image`.

    Raises:
        errors.ConfigError: it is neither, or breaks a rule; the message names the file or array and the rule.
    """
    # They import this module for the interface.
    from imagetrain_trainer.data import npz_source, tree_source  # noqa: PLC0415

    if path.is_dir():
        return tree_source.TreeSource(path, channels)
    if not path.exists():
        raise errors.ConfigError(f"source must be a folder or an .npz file, but {str(path)!r} does not exist.")
    if path.suffix.lower() != ".npz":
        raise errors.ConfigError(
            f"source must be a folder with a folder per class, or an .npz file, got {str(path)!r}."
        )
    return npz_source.NpzSource(path, channels)
