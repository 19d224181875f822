"""A histogram of classes in text: one line a class with its count in each split and a bar."""

from collections.abc import Mapping, Sequence

_BAR_WIDTH = 40
_EIGHTHS = "▏▎▍▌▋▊▉█"
MOST_CLASSES = 200  # lines; the classes beyond are summed up in one


def lines(counts: Sequence[tuple[str, Mapping[str, int]]], splits: Sequence[str]) -> list[str]:
    """Return the lines of a table of classes; the longest bar belongs to the largest class.

    Args:
        counts: each class with its samples by split.
        splits: columns in order.
    """
    shown = counts[:MOST_CLASSES]
    largest = max((sum(by_split.values()) for _, by_split in shown), default=0)
    name_width = max([5, *(len(name) for name, _ in shown)])
    header = f"{'class':<{name_width}}" + "".join(f" {split:>10}" for split in splits)
    table = [header]
    for name, by_split in shown:
        columns = "".join(f" {by_split.get(split, 0):>10,}" for split in splits)
        table.append(f"{name:<{name_width}}{columns}  {bar(sum(by_split.values()), largest)}".rstrip())
    if len(counts) > len(shown):
        rest = sum(sum(by_split.values()) for _, by_split in counts[MOST_CLASSES:])
        table.append(f"and {len(counts) - len(shown)} more classes with {rest:,} images")
    return table


def bars(heading: str, counts: Sequence[tuple[str, int]]) -> list[str]:
    """Return the lines of a table of one count a row; the longest bar belongs to the largest.

    Args:
        heading: of the rows' names.
        counts: each row's name and count.
    """
    largest = max((count for _, count in counts), default=0)
    width = max([len(heading), *(len(name) for name, _ in counts)])
    rows = (f"{name:<{width}} {count:>10,}  {bar(count, largest)}".rstrip() for name, count in counts)
    return [f"{heading:<{width}} {'images':>10}", *rows]


def bar(value: int, largest: int) -> str:
    """Return a bar whose length is `value` against `largest`, in eighths of a character."""
    if largest <= 0:
        return ""
    eighths = round(value / largest * _BAR_WIDTH * len(_EIGHTHS))
    whole, rest = divmod(eighths, len(_EIGHTHS))
    return _EIGHTHS[-1] * whole + (_EIGHTHS[rest - 1] if rest else "")
