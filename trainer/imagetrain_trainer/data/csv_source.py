"""A list of images with their labels: a CSV or JSONL file, beside the images or not."""

from collections.abc import Iterator

from imagetrain_trainer import errors
from imagetrain_trainer.data import class_labels, given_splits, source_files, sources, table_rows

_MOST_LINES_NAMED = 2


class TableSource(sources.Source):
    """The images that a list names: by a path that starts from the list's folder, an absolute one or an s3:// URI.

    An image's key is its path as the list has it. Lines are read one by one; a list of any length takes no memory.
    """

    def __init__(
        self,
        place: str,
        files: source_files.SourceFiles | None = None,
        columns: table_rows.Columns | None = None,
        *,
        kind: str = "csv",
    ) -> None:
        """Open nothing yet.

        Args:
            place: of the list.
            files: reads it and the images.
            columns: names of its columns.
            kind: "csv", or "jsonl".
        """
        self._place, self._kind = place, kind
        self._files = files or source_files.SourceFiles()
        self._columns = columns or table_rows.Columns()
        self._folder, name = source_files.split(place)
        self.name = name.partition(".")[0] or name

    def entries(self) -> Iterator[sources.Entry]:
        """Yield the images in the order of the lines."""
        labels = class_labels.ClassLabels()
        for row in self._rows():
            try:
                place = source_files.resolve(self._folder, row.path)
                class_name = labels.add(row.label)
                split = given_splits.parse(row.split)
            except errors.ConfigError as e:
                raise errors.ConfigError(f"line {row.line} of {self._place!r} {e}.") from e
            if source_files.is_s3(place):
                self.concurrent_reads = source_files.CONCURRENT_READS
            yield sources.Entry(row.path, class_name, split, row.group or None, place)
        self.class_names = labels.ordered()

    def _rows(self) -> Iterator[table_rows.Row]:
        with self._files.open(self._place) as file:
            try:
                if self._kind == "jsonl":
                    yield from table_rows.read_jsonl(file, self._columns)
                else:
                    delimiter = "\t" if self._place.lower().endswith(".tsv") else ","
                    yield from table_rows.read_csv(file, self._columns, delimiter)
            except table_rows.LineError as e:
                raise errors.ConfigError(f"line {e.line} of {self._place!r} {e.rule}.") from e

    def read(self, locator: str) -> bytes:
        """Return a file's bytes."""
        return self._files.read(locator)

    def explain_duplicate(self, key: str) -> str:
        """Return the sentence that refuses a path listed twice, with the lines."""
        lines: list[str] = []
        for row in self._rows():
            if row.path == key:
                lines.append(str(row.line))
            if len(lines) == _MOST_LINES_NAMED:
                break
        return f"{key!r} must be listed once, and is on lines {' and '.join(lines)} of {self._place!r}."
