"""The arrays of an .npz file: x and y, or x_train, y_train, x_test and y_test, and optionally classes."""

import pathlib
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from imagetrain_trainer import errors
from imagetrain_trainer.data import images, sources

_ONE_SET = {"x": None}
_WITH_TEST = {"x_train": None, "x_test": "test"}
_CLASSES = "classes"


class NpzSource(sources.ItemSource):
    """Images x: (n, height, width[, 1 or 3]) uint8 with labels y: (n,) integers; classes: (k,) strings.

    A given test split is kept. Without `classes` the names are the labels themselves.
    """

    def __init__(self, path: pathlib.Path, channels: int | None) -> None:
        """Load the arrays into memory.

        Args:
            path: the file.
            channels: None, or what the images must have.

        Raises:
            errors.ConfigError: an array is missing or breaks a rule; the message names file, array and rule.
        """
        self._path = path
        self.name = path.stem
        arrays = self._load()
        parts = self._choose_parts(arrays)
        self._images = {name: self._check_images(name, arrays[name]) for name in parts}
        labels = {
            name: self._check_labels(_label_name(name), arrays[_label_name(name)], len(arrays[name])) for name in parts
        }
        self._check_equal_shapes(channels)
        self.class_names = self._check_classes(arrays, max(int(array.max()) for array in labels.values()))
        self.items = [
            sources.Item(f"{name}[{i}]", label, split, i)
            for name, split in parts.items()
            for i, label in enumerate(labels[name].tolist())
        ]
        self._check_label_range(labels)

    def read(self, item: sources.Item) -> images.StoredImage:
        """Return one image of the arrays, as raw bytes."""
        return images.store_raw(self._images[item.key.partition("[")[0]][item.position])

    def read_payload(self, item: sources.Item, *, is_kept: bool) -> bytes:
        """Return one image's bytes."""
        del is_kept  # always
        payload: bytes = self._images[item.key.partition("[")[0]][item.position].tobytes()
        return payload

    def _refuse(self, array: str, rule: str) -> errors.ConfigError:
        return errors.ConfigError(f"array {array!r} of {str(self._path)!r} {rule}.")

    def _load(self) -> dict[str, npt.NDArray[Any]]:
        try:
            # np.load would leave a file that it opened, and finds broken, open.
            with self._path.open("rb") as file:
                zipfile.ZipFile(file).close()  # raises when it is none
                file.seek(0)
                with np.load(file, allow_pickle=False) as archive:
                    return {name: self._load_array(archive, name) for name in archive.files}
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as e:
            raise errors.ConfigError(f"{str(self._path)!r} must be an .npz file ({str(e)[:80]}).") from e

    def _load_array(self, archive: Mapping[str, npt.NDArray[Any]], name: str) -> npt.NDArray[Any]:
        try:
            return archive[name]
        except ValueError as e:
            raise self._refuse(name, "must hold numbers or strings, not Python objects") from e

    def _choose_parts(self, arrays: dict[str, npt.NDArray[Any]]) -> dict[str, str | None]:
        complete = [
            parts
            for parts in (_ONE_SET, _WITH_TEST)
            if all(name in arrays and _label_name(name) in arrays for name in parts)
        ]
        if len(complete) != 1:
            raise errors.ConfigError(
                f"{str(self._path)!r} must hold arrays x and y, or else x_train, y_train, x_test and y_test, "
                f"got {sorted(arrays)!r}."
            )
        return dict(complete[0])

    def _check_images(self, name: str, array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        if array.dtype != np.uint8:
            raise self._refuse(name, f"must have dtype uint8 (pixels 0 to 255), got {array.dtype}")
        if array.ndim == 3:
            array = array[..., None]
        if array.ndim != 4 or array.shape[3] not in (1, 3) or 0 in array.shape:
            raise self._refuse(
                name, f"must have shape (n, height, width) or (n, height, width, 1 or 3), got {array.shape}"
            )
        return array

    def _check_labels(self, name: str, array: npt.NDArray[Any], count: int) -> npt.NDArray[np.int64]:
        if array.dtype.kind not in "iu":
            raise self._refuse(name, f"must hold integers, got {array.dtype}")
        if array.shape != (count,):
            raise self._refuse(name, f"must have shape ({count},), one label per image, got {array.shape}")
        if int(array.min()) < 0:
            raise self._refuse(name, f"must hold labels from 0 on, got {int(array.min())}")
        return array.astype(np.int64)

    def _check_equal_shapes(self, channels: int | None) -> None:
        shapes = {name: array.shape[1:] for name, array in self._images.items()}
        if len(set(shapes.values())) != 1:
            raise errors.ConfigError(f"all images of {str(self._path)!r} must have one shape, got {shapes}.")
        actual = next(iter(shapes.values()))[2]
        if channels not in (None, actual):
            raise errors.ConfigError(
                f"channels must be left out or {actual}, as in {str(self._path)!r}, got {channels}."
            )

    def _check_classes(self, arrays: dict[str, npt.NDArray[Any]], largest_label: int) -> tuple[str, ...]:
        if _CLASSES not in arrays:
            return tuple(str(label) for label in range(largest_label + 1))
        names = arrays[_CLASSES]
        if names.dtype.kind != "U" or names.ndim != 1:
            raise self._refuse(_CLASSES, f"must be a list of strings, got {names.dtype} of shape {names.shape}")
        if len(set(names.tolist())) != len(names) or not all(name and name.isprintable() for name in names.tolist()):
            raise self._refuse(_CLASSES, "must hold distinct, printable names")
        return tuple(names.tolist())

    def _check_label_range(self, labels: dict[str, npt.NDArray[np.int64]]) -> None:
        count = len(self.class_names)
        for name, array in labels.items():
            if int(array.max()) >= count:
                raise self._refuse(
                    _label_name(name), f"must hold labels below the {count} classes, got {int(array.max())}"
                )


def _label_name(image_name: str) -> str:
    return "y" + image_name[1:]
