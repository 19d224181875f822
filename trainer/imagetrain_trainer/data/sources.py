"""Where packing takes images from: a folder per class, or the arrays of an .npz file."""

import abc
from collections.abc import Sequence
from typing import NamedTuple

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
