"""Which entries of the disk cache go when there is no room. Pure: no file, no clock.

An epoch reads every piece once, in an order of its own. Under plain LRU a cache that holds the share f of such a set
finds f + (1 - f) ln(1 - f) of it: 0.15 for f = 0.5, and 0.67 for f = 0.9, for most pieces are thrown out shortly before
they are read again. Who keeps what it has finds f. So LRU decides between data sets, and among what is not read any
more, while a set that is being read keeps its entries.
"""

import collections
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

STALE_SECONDS = 24 * 3600
"""An entry of a set that is being read, itself not read for that long, belongs to no epoch under way (other pieces are
read now, by another cut of the shards)."""
_CONTENT_SHARE = 0.9  # of an equal part; for less than that a set takes nothing from others, or two would never rest


class Found(NamedTuple):
    """An entry on the disk; the least recently used sorts first.

    Attributes:
        used_ns: when it was last used, nanoseconds since 1970.
        size_bytes: what it takes from the disk.
        name: of its file.
        scope: of its data set.
    """

    used_ns: int
    size_bytes: int
    name: str
    scope: str


def plan_eviction(
    entries: Iterable[Found], *, excess_bytes: int, over_bytes: int, own: str, live: Collection[str], now_ns: int
) -> list[Found]:
    """Choose what goes, the least recently used first of each kind.

    1. Entries of sets that nobody reads, and stale ones.
    2. If `own` has much less than an equal part among the sets that are read: what others have above that part.
    3. Only to come down to the limit, which was lowered since: any.

    Args:
        entries: all that are on the disk.
        excess_bytes: what should go; less may.
        over_bytes: what must go.
        own: scope of who asks.
        live: scopes that are being read.
        now_ns: nanoseconds since 1970.
    """
    ordered = sorted(entries)
    live = {*live, own}
    held = collections.Counter[str]()
    for entry in ordered:
        held[entry.scope] += entry.size_bytes
    stale_ns = now_ns - STALE_SECONDS * 10**9
    free = [entry for entry in ordered if entry.scope not in live or entry.used_ns < stale_ns]
    chosen = list(_take(free, excess_bytes))
    part_bytes = sum(held[scope] for scope in live) // len(live)
    if held[own] < part_bytes * _CONTENT_SHARE:
        others = _above(ordered, held, live - {own}, part_bytes, set(chosen))
        chosen += _take(others, min(excess_bytes - _size(chosen), part_bytes - held[own]))
    taken = set(chosen)
    return chosen + list(_take([entry for entry in ordered if entry not in taken], over_bytes - _size(chosen)))


def _size(entries: Iterable[Found]) -> int:
    return sum(entry.size_bytes for entry in entries)


def _take(entries: Iterable[Found], size_bytes: int) -> Iterator[Found]:
    for entry in entries:
        if size_bytes <= 0:
            return
        size_bytes -= entry.size_bytes
        yield entry


def _above(
    ordered: Sequence[Found],
    held: collections.Counter[str],
    scopes: Collection[str],
    part_bytes: int,
    taken: Collection[Found],
) -> Iterator[Found]:
    """Yield what the scopes have above a part each."""
    left = {scope: held[scope] - part_bytes for scope in scopes}
    for entry in ordered:
        if left.get(entry.scope, 0) >= entry.size_bytes and entry not in taken:
            left[entry.scope] -= entry.size_bytes
            yield entry
