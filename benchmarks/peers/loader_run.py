"""One process of a loader under measure: its arguments, its figures, and the one line of JSON that it prints.

Standard library alone, for each loader has an environment of its own.
"""

import argparse
import dataclasses
import itertools
import json
import os
import pathlib
import time
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

BATCH = 64
"""Records of a step, over all ranks."""
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Batch(NamedTuple):
    """Records of one step on one rank."""

    ids: list[int]
    payloads: list[bytes]


@dataclasses.dataclass(slots=True)
class Figures:
    """What a process prints. Times count from the moment when its modules were loaded."""

    images: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of the process and of all that it started."""
    first_batch_seconds: float = 0.0
    first_ids: list[int] = dataclasses.field(default_factory=list)
    batches: list[list[int]] = dataclasses.field(default_factory=list)
    """Record ids of each batch, where they were asked for."""
    checksums: dict[int, int] = dataclasses.field(default_factory=dict)
    """CRC32 of each record, where they were asked for."""
    error: str | None = None


def parse(description: str, argv: list[str] | None = None) -> argparse.Namespace:
    """Parse what every loader takes.

    `source` is a URI or the file that lists URLs; `local` a folder on disk for copies; `workers` processes that load;
    `skip` batches that an earlier run had; `state` what that run saved; `take` batches to read, 0 is all.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("action", choices=("read", "write"))
    parser.add_argument("source")
    parser.add_argument("--records", type=int, default=0)
    parser.add_argument("--record-bytes", type=int, default=0)
    parser.add_argument("--local", type=pathlib.Path)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--take", type=int, default=0)
    parser.add_argument("--state", type=pathlib.Path)
    parser.add_argument("--save-state", type=pathlib.Path)
    parser.add_argument("--shuffle-block", type=int)
    parser.add_argument("--validate-hash")
    parser.add_argument("--rank", type=int, default=int(os.environ.get("RANK", "0")))
    parser.add_argument("--world", type=int, default=int(os.environ.get("WORLD_SIZE", "1")))
    parser.add_argument("--check", action="store_true", help="print ids and checksums of all records")
    return parser.parse_args(argv)


def measure(arguments: argparse.Namespace, open_batches: Callable[[argparse.Namespace], Iterator[Batch]]) -> None:
    """Read batches and print the figures."""
    figures = Figures()
    cpu_started, started = tree_cpu_seconds(), time.perf_counter()
    try:
        for batch in itertools.islice(open_batches(arguments), arguments.take or None):
            if not figures.images:
                figures.first_batch_seconds = time.perf_counter() - started
                figures.first_ids = batch.ids
            figures.images += len(batch.payloads)
            if arguments.check:
                figures.batches.append(batch.ids)
                figures.checksums.update(zip(batch.ids, map(zlib.crc32, batch.payloads), strict=True))
    except Exception as e:  # noqa: BLE001 - what a loader says of bad bytes is a result
        figures.error = f"{type(e).__name__}: {e}"
    figures.seconds = time.perf_counter() - started
    figures.cpu_seconds = tree_cpu_seconds() - cpu_started
    print(json.dumps(dataclasses.asdict(figures)), flush=True)


def tree_cpu_seconds() -> float:
    """Return the processor time of this process, of its descendants, and of those of them that ended."""
    parents: dict[int, list[tuple[int, float]]] = {}
    own = 0.0
    for folder in pathlib.Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        seconds = sum(map(int, fields[11:15])) / _TICKS_PER_SECOND
        if int(folder.name) == os.getpid():
            own = seconds
        parents.setdefault(int(fields[1]), []).append((int(folder.name), seconds))
    waiting, total = [os.getpid()], own
    while waiting:
        for child, seconds in parents.get(waiting.pop(), []):
            total += seconds
            waiting.append(child)
    return total


def make_payloads(records: int, record_bytes: int, draw: Callable[[int], bytes]) -> Iterator[bytes]:
    """Make the bytes of the records, the same in every form; `draw` is `bytes` of numpy's generator of seed 0."""
    return (draw(record_bytes) for _ in range(records))
