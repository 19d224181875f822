"""The arrays of an .npz file: x and y, or x_train, y_train, x_test and y_test, and optionally classes."""

import io
import pathlib
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from imagetrain_trainer import errors
from imagetrain_trainer.data import source_files, sources

_ONE_SET = {"x": None}
_WITH_TEST = {"x_train": None, "x_test": "test"}
_CLASSES = "classes"
_LOCAL_HEADER_BYTES = 30  # PKWARE APPNOTE 4.3.7; lengths of name and extra field are its last two numbers
_CHUNK_BYTES = 1024 * 1024
# What zipfile raises of broken archives; RuntimeError of encrypted ones and of kinds that it does not know.
_ZIP_ERRORS = (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, struct.error)


class _Header(NamedTuple):
    """What an array's header says: its shape and type, and where its data begins in the member."""

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]
    offset: int


class NpzSource(sources.Source):
    """Images x: (n, height, width[, 1 or 3]) uint8 with labels y: (n,) integers; classes: (k,) strings.

    A given test split is kept. Without `classes` the names are the labels themselves. The images of a file that
    `np.savez` wrote on a disk are mapped, and take no memory; of compressed ones every process holds a copy.
    """

    class_names: tuple[str, ...]

    def __init__(self, place: str, files: source_files.SourceFiles | None = None) -> None:
        """Read the labels, and every byte of the images once, to check them.

        Args:
            place: of the file.
            files: reads it.

        Raises:
            errors.ConfigError: an array is missing or breaks a rule; the message names file, array and rule.
        """
        self._place = place
        self._files = files or source_files.SourceFiles()
        self.name = source_files.split(place)[1].removesuffix(".npz")
        self._images: dict[str, npt.NDArray[np.uint8]] = {}
        self._lock = threading.Lock()
        with self._opened() as archive:
            members = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            self._parts = self._choose_parts(members)
            headers = {name: self._read_header(archive, name) for name in members}
            for name in self._parts:
                self._check_images(name, headers[name])
                self._check_bytes(archive, name)
            self._check_equal_shapes({name: headers[name] for name in self._parts})
            self._labels = {
                name: self._check_labels(
                    _label_name(name), self._load(archive, _label_name(name)), headers[name].shape[0]
                )
                for name in self._parts
            }
            names = self._load(archive, _CLASSES) if _CLASSES in members else None
        self.class_names = self._check_classes(names)
        self._check_label_range()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_images": {}, "_labels": {}, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def entries(self) -> Iterator[sources.Entry]:
        """Yield the images in the order of the arrays."""
        for name, split in self._parts.items():
            for position, label in enumerate(self._labels[name].tolist()):
                key = f"{name}[{position}]"
                yield sources.Entry(key, self.class_names[label], split, None, key)

    def read(self, locator: str) -> npt.NDArray[np.uint8]:
        """Return one image of the arrays, (height, width, 1 or 3)."""
        name, _, position = locator.rstrip("]").rpartition("[")
        with self._lock:
            if name not in self._images:
                self._images[name] = self._open_images(name)
        return np.ascontiguousarray(self._images[name][int(position)])

    def describe(self, locator: str) -> str:
        """Return an image's array, index and file."""
        return f"image {locator} of {self._place!r}"

    def _refuse(self, array: str, rule: str) -> errors.ConfigError:
        return errors.ConfigError(f"array {array!r} of {self._place!r} {rule}.")

    def _opened(self) -> "_Archive":
        return _Archive(self._place, self._files)

    def _choose_parts(self, members: list[str]) -> dict[str, str | None]:
        complete = [
            parts
            for parts in (_ONE_SET, _WITH_TEST)
            if all(name in members and _label_name(name) in members for name in parts)
        ]
        if len(complete) != 1:
            raise errors.ConfigError(
                f"{self._place!r} must hold arrays x and y, or else x_train, y_train, x_test and y_test, "
                f"got {sorted(members)[:20]!r}."
            )
        return dict(complete[0])

    def _read_header(self, archive: zipfile.ZipFile, name: str) -> _Header:
        with archive.open(f"{name}.npy") as member:
            try:
                version = np.lib.format.read_magic(member)
                read = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }.get(version)
                if read is None:
                    raise self._refuse(name, f"must be in version 1 or 2 of the .npy format, got {version}")
                shape, is_fortran, dtype = read(member)
            except ValueError as e:
                raise self._refuse(name, f"must be an array ({str(e)[:80]})") from e
            if dtype.hasobject:
                raise self._refuse(name, "must hold numbers or strings, not Python objects")
            return _Header(shape, is_fortran, dtype, member.tell())

    def _load(self, archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
        with archive.open(f"{name}.npy") as member:
            try:
                array: npt.NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
            except ValueError as e:
                raise self._refuse(name, f"must be a whole array ({str(e)[:80]})") from e
        return array

    def _check_bytes(self, archive: zipfile.ZipFile, name: str) -> None:
        """Read a member to its end, where zipfile compares its checksum."""
        with archive.open(f"{name}.npy") as member:
            while member.read(_CHUNK_BYTES):
                pass

    def _open_images(self, name: str) -> npt.NDArray[np.uint8]:
        """Return (n, height, width, channels): mapped where the file has the bytes as they are, loaded otherwise."""
        with self._opened() as archive:
            info, header = archive.getinfo(f"{name}.npy"), self._read_header(archive, name)
            is_plain = info.compress_type == zipfile.ZIP_STORED and not header.is_fortran
            if is_plain and not source_files.is_s3(self._place):
                start = _find_data(self._place, info) + header.offset
                array: npt.NDArray[np.uint8] = np.memmap(self._place, np.uint8, "r", start, header.shape)
            else:
                array = self._load(archive, name)
        return array[..., None] if array.ndim == 3 else array

    def _check_images(self, name: str, header: _Header) -> None:
        if header.dtype != np.uint8:
            raise self._refuse(name, f"must have dtype uint8 (pixels 0 to 255), got {header.dtype}")
        shape = (*header.shape, 1) if len(header.shape) == 3 else header.shape
        if len(shape) != 4 or shape[3] not in (1, 3) or 0 in shape:
            raise self._refuse(name, f"must have shape (n, height, width) or (n, height, width, 1 or 3), got {shape}")

    def _check_labels(self, name: str, array: npt.NDArray[Any], count: int) -> npt.NDArray[np.int64]:
        if array.dtype.kind not in "iu":
            raise self._refuse(name, f"must hold integers, got {array.dtype}")
        if array.shape != (count,):
            raise self._refuse(name, f"must have shape ({count},), one label per image, got {array.shape}")
        if int(array.min()) < 0:
            raise self._refuse(name, f"must hold labels from 0 on, got {int(array.min())}")
        return array.astype(np.int64)

    def _check_equal_shapes(self, headers: dict[str, _Header]) -> None:
        shapes = {name: (*header.shape, 1)[1:4] for name, header in headers.items()}
        if len(set(shapes.values())) != 1:
            raise errors.ConfigError(f"all images of {self._place!r} must have one shape, got {shapes}.")

    def _check_classes(self, names: npt.NDArray[Any] | None) -> tuple[str, ...]:
        if names is None:
            largest = max(int(array.max()) for array in self._labels.values())
            return tuple(str(label) for label in range(largest + 1))
        if names.dtype.kind != "U" or names.ndim != 1:
            raise self._refuse(_CLASSES, f"must be a list of strings, got {names.dtype} of shape {names.shape}")
        if len(set(names.tolist())) != len(names) or not all(name and name.isprintable() for name in names.tolist()):
            raise self._refuse(_CLASSES, "must hold distinct, printable names")
        return tuple(names.tolist())

    def _check_label_range(self) -> None:
        count = len(self.class_names)
        for name, array in self._labels.items():
            if int(array.max()) >= count:
                raise self._refuse(
                    _label_name(name), f"must hold labels below the {count} classes, got {int(array.max())}"
                )


class _Archive:
    """An .npz file, opened as a ZIP archive; what is wrong with it as such is told here."""

    def __init__(self, place: str, files: source_files.SourceFiles) -> None:
        self._place, self._files = place, files
        self._file: BinaryIO | None = None

    def __enter__(self) -> zipfile.ZipFile:
        is_remote = source_files.is_s3(self._place)
        self._file = io.BytesIO(self._files.read(self._place)) if is_remote else self._files.open(self._place)
        try:
            return zipfile.ZipFile(self._file)
        except _ZIP_ERRORS as e:
            self._file.close()
            raise self._broken(e) from e

    def __exit__(self, kind: object, e: BaseException | None, traceback: object) -> None:
        if self._file is not None:
            self._file.close()
        if isinstance(e, _ZIP_ERRORS):
            raise self._broken(e) from e

    def _broken(self, e: BaseException) -> errors.ConfigError:
        return errors.ConfigError(f"{self._place!r} must be an .npz file ({str(e)[:80]}).")


def _find_data(place: str, info: zipfile.ZipInfo) -> int:
    """Return where a stored member's data begins in the file."""
    with pathlib.Path(place).open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(_LOCAL_HEADER_BYTES)
    name_bytes, extra_bytes = struct.unpack_from("<HH", header, _LOCAL_HEADER_BYTES - 4)
    return info.header_offset + _LOCAL_HEADER_BYTES + int(name_bytes) + int(extra_bytes)


def _label_name(image_name: str) -> str:
    return "y" + image_name[1:]
