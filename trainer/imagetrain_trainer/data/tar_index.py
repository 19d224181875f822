"""The members of a plain tar file: names, kinds, offsets and sizes, and nothing is ever extracted.

Formats: POSIX.1-2001 (pax), ustar, and GNU's long names and binary sizes. Python's tarfile reads more, and holds every
member and extended headers of any size in memory; this reader holds one header, and believes none.
"""

import os
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from imagetrain_trainer import errors

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_MAX_EXTENSION_BYTES = 1024 * 1024  # of one pax header or long name; file systems end names at 4 KB
_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK, _GNU_SPARSE = b"x", b"g", b"L", b"K", b"S"
_FILE_KINDS = frozenset({b"0", b"\0", b"7"})
_FOLDER_KIND = b"5"


class Member(NamedTuple):
    """One member of a tar file.

    Attributes:
        name: as the tar has it, without a leading `./`.
        is_file: a regular file, no link or device.
        is_folder: a folder.
        offset: of its data, in bytes.
        size_bytes: of its data.
    """

    name: str
    is_file: bool
    is_folder: bool
    offset: int
    size_bytes: int


def iterate(file: BinaryIO, size_bytes: int) -> Iterator[Member]:
    """Yield the members of a tar file up to its end mark; the caller may move the file's position between two.

    Args:
        file: readable and seekable.
        size_bytes: of the file.

    Raises:
        errors.ConfigError: it is damaged, cut off or no tar file; the message is a rule, for the caller to prefix with
            the file's name.
    """
    position, extension = 0, dict[str, str]()
    while True:
        header = _read_at(file, position, _BLOCK, size_bytes)
        if header == _ZEROS:
            return
        _check_sum(header, position)
        kind, size = header[156:157], _number(header[124:136], position)
        if kind == _GNU_SPARSE:
            raise errors.ConfigError("must hold no sparse files: write it again without --sparse")
        start = position + _BLOCK
        if kind in (_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK):
            extension |= _read_extension(file, kind, start, size, size_bytes)
        else:
            size = int(extension.get("size", size))
            name = extension.get("path") or _plain_name(header)
            if size < 0 or start + size > size_bytes:
                raise _cut_off(position)
            yield Member(name.removeprefix("./"), kind in _FILE_KINDS, kind == _FOLDER_KIND, start, size)
            extension = {}
        position = start + -(-size // _BLOCK) * _BLOCK


def _read_at(file: BinaryIO, position: int, length: int, size_bytes: int) -> bytes:
    if position + length > size_bytes:
        raise _cut_off(position)
    file.seek(position, os.SEEK_SET)
    data = file.read(length)
    if len(data) != length:
        raise _cut_off(position)
    return data


def _read_extension(file: BinaryIO, kind: bytes, start: int, size: int, size_bytes: int) -> dict[str, str]:
    """Return what an extended header says of the member behind it: its path and size, where it does."""
    if not 0 <= size <= _MAX_EXTENSION_BYTES:
        raise errors.ConfigError(
            f"must have extended headers of at most {_MAX_EXTENSION_BYTES} bytes, got {size} at offset {start - _BLOCK}"
        )
    data = _read_at(file, start, size, size_bytes)
    if kind == _GNU_NAME:
        return {"path": _text(data.rstrip(b"\0"))}
    return _parse_pax(data, start) if kind == _PAX else {}


def _parse_pax(data: bytes, start: int) -> dict[str, str]:
    """Parse `LENGTH KEYWORD=VALUE` lines, where the length counts the whole line."""
    found, position = {}, 0
    while position < len(data) and data[position] != 0:
        digits = data[position : position + 20].partition(b" ")[0]
        length = int(digits) if digits.isdigit() else 0
        line = data[position + len(digits) + 1 : position + length]
        keyword, mark, value = line.partition(b"=")
        if length <= len(digits) + 1 or position + length > len(data) or not mark:
            raise errors.ConfigError(f"must have well-formed extended headers, and the one at offset {start} is not")
        if keyword.startswith(b"GNU.sparse."):
            raise errors.ConfigError("must hold no sparse files: write it again without --sparse")
        text = _text(value.removesuffix(b"\n"))
        if keyword == b"path":
            found["path"] = text
        elif keyword == b"size":
            if not (text.isascii() and text.isdigit() and len(text) < 20):
                raise errors.ConfigError(f"must have sizes that are numbers, got {text[:40]!r} at offset {start}")
            found["size"] = text
        position += length
    return found


def _check_sum(header: bytes, position: int) -> None:
    """Compare the header's checksum: the sum of its bytes, with its own field as blanks."""
    stored = header[148:156].strip(b"\0 ")
    expected = sum(header) - sum(header[148:156]) + 8 * 0x20
    if not stored.isdigit() or int(stored, 8) != expected:
        what = "is no tar file" if position == 0 else f"is damaged at offset {position}"
        raise errors.ConfigError(f"must be an uncompressed tar file, and {what}")


def _number(field: bytes, position: int) -> int:
    """Read an octal number, or GNU's binary one, whose first bit is set."""
    if field[0] & 0x80:
        return int.from_bytes(bytes((field[0] & 0x7F,)) + field[1:], "big")
    digits = field.strip(b"\0 ") or b"0"
    try:
        return int(digits, 8)
    except ValueError as e:
        raise errors.ConfigError(f"must have sizes that are numbers, got {digits!r} at offset {position}") from e


def _plain_name(header: bytes) -> str:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0]
    if prefix and header[257:263] == b"ustar\0":  # GNU's own format, `ustar  `, keeps times there
        name = prefix + b"/" + name
    return _text(name)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _cut_off(position: int) -> errors.ConfigError:
    return errors.ConfigError(
        f"is cut off: it must go on at offset {position} and end with blocks of zeros. Write or copy it again"
    )
