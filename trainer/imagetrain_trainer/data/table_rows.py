"""The rows of a CSV or JSONL list, one at a time, with the line that each begins on. Pure but for reading the file."""

import csv
import dataclasses
import json
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from imagetrain_trainer import errors

_MAX_LINE_BYTES = 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_OTHER_BOMS = (b"\xff\xfe", b"\xfe\xff")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The names of the columns, or of the fields of JSON objects."""

    path: str = "path"
    label: str = "label"
    split: str = "split"
    """May be missing, unless `is_split_required`."""
    group: str | None = None
    """None reads no groups."""
    is_split_required: bool = False

    @property
    def required(self) -> tuple[str, ...]:
        """The names that must be there."""
        split = (self.split,) if self.is_split_required else ()
        return (self.path, self.label, *split, *((self.group,) if self.group is not None else ()))


class Row(NamedTuple):
    """One line of a list; label, split and group are stripped of white space around them, and empty when missing."""

    line: int
    path: str
    label: str
    split: str
    group: str


class LineError(Exception):
    """A line breaks a rule; its arguments are the line's number and the rule."""

    def __init__(self, line: int, rule: str) -> None:
        super().__init__(line, rule)
        self.line, self.rule = line, rule


def read_csv(file: BinaryIO, columns: Columns, delimiter: str = ",") -> Iterator[Row]:
    """Yield the rows of a CSV file with a header line (RFC 4180, UTF-8 with or without a byte order mark).

    Raises:
        LineError: a line breaks a rule.
    """
    reader = csv.reader(_lines(file), delimiter=delimiter, strict=True)
    positions: list[int | None] | None = None
    width, start = 0, 1
    try:
        for cells in reader:
            line, start = start, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if positions is None:
                positions, width = _read_header(line, cells, columns), len(cells)
                continue
            if len(cells) != width:
                raise LineError(line, f"must have {width} fields, as the header has, got {len(cells)}")
            path, *others = ("" if position is None else cells[position] for position in positions)
            label, split, group = (value.strip() for value in others)
            yield Row(line, path, label, split, group)
    except csv.Error as e:
        raise LineError(start, f"must be a line of CSV ({e})") from e
    if positions is None:
        raise LineError(1, f"must be a header that names the columns {', '.join(columns.required)}, got an empty file")


def _read_header(line: int, cells: list[str], columns: Columns) -> list[int | None]:
    """Return where path, label, split and group are in a row; None for one that is not."""
    names = [cell.strip() for cell in cells]
    for name in columns.required:
        if name not in names:
            hint = " Separate columns by commas." if len(names) == 1 and {";", "\t", "|"}.intersection(names[0]) else ""
            raise LineError(
                line,
                f"must name a column {name!r}, got {', '.join(names)[:300]}. Add it, or name another with "
                f"--path-column, --label-column, --split-column or --group-column.{hint}".removesuffix("."),
            )
    wanted = (columns.path, columns.label, columns.split, columns.group)
    for column in wanted:
        if column is not None and names.count(column) > 1:
            raise LineError(line, f"must name column {column!r} once, got {names.count(column)}")
    return [names.index(column) if column in names else None for column in wanted]


def read_jsonl(file: BinaryIO, columns: Columns) -> Iterator[Row]:
    """Yield the rows of a file with a JSON object on each line; blank lines are passed over.

    Raises:
        LineError: a line breaks a rule.
    """
    number = 0
    for number, text in enumerate(_lines(file), start=1):
        if not text.strip():
            continue
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as e:
            raise LineError(number, f"must be a JSON object ({str(e)[:80]})") from e
        if not isinstance(fields, dict):
            raise LineError(number, f"must be a JSON object, got {text.strip()[:80]!r}")
        for name in columns.required:
            if fields.get(name) is None:
                raise LineError(number, f"must have a field {name!r}, got {', '.join(fields)[:300]}")
        try:
            path, label, split, group = (
                "" if name is None or fields.get(name) is None else as_label(fields[name])
                for name in (columns.path, columns.label, columns.split, columns.group)
            )
        except errors.ConfigError as e:
            raise LineError(number, str(e)) from e
        yield Row(number, path, label.strip(), split.strip(), group.strip())
    if number == 0:
        raise LineError(1, "must be a JSON object, got an empty file")


def as_label(value: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    """Return a JSON text or whole number as text.

    Raises:
        errors.ConfigError: it is another kind of value; the message is a rule.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise errors.ConfigError(f"must hold texts or whole numbers, got {json.dumps(value)[:80]}")


def _lines(file: BinaryIO) -> Iterator[str]:
    """Decode a file line by line; a line that never ends does not fill the memory."""
    number = 0
    while data := file.readline(_MAX_LINE_BYTES + 1):
        number += 1
        if len(data) > _MAX_LINE_BYTES:
            raise LineError(number, f"must have at most {_MAX_LINE_BYTES} bytes")
        if number == 1:
            if data.startswith(_OTHER_BOMS):
                raise LineError(1, "must be in UTF-8, got UTF-16: save the file again as UTF-8")
            data = data.removeprefix(_BOM)
        try:
            yield data.decode()
        except UnicodeDecodeError as e:
            raise LineError(number, f"must be in UTF-8, got the byte {data[e.start]:#04x}") from e
