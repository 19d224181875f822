"""The outcome document: written once, when a worker ends, for whoever started it."""

import itertools
import json
import pathlib
from collections.abc import Sequence

from imagetrain_api import exit_codes, progress, schema

MAX_BYTES = 4096  # Kubernetes API reference, `terminationMessagePath`: what is longer is cut
_MAX_MESSAGE_BYTES = 2000  # as JSON; the rest is for the summary and the URI


def build_outcome(code: int, message: str = "", **details: object) -> progress.WorkerOutcome:
    """Return the outcome of an exit code, with a message cut to what fits."""
    message = _cut(message)
    document = {"exitCode": int(code), "reason": exit_codes.find_outcome(code).reason, "message": message, **details}
    return schema.decode(progress.WorkerOutcome, document)


def _cut(message: str) -> str:
    """Cut a message so that its JSON, where one character may take six bytes, has at most _MAX_MESSAGE_BYTES."""
    sizes = itertools.accumulate(len(json.dumps(character)) - 2 for character in message)  # without the quotes
    kept = sum(1 for size in sizes if size <= _MAX_MESSAGE_BYTES)
    return message if kept == len(message) else message[:kept] + "..."


def with_recoveries(outcome: progress.WorkerOutcome, told: Sequence[progress.Recovery]) -> progress.WorkerOutcome:
    """Return an outcome with the newest recoveries, as many as fit: the last may not have been read by anybody yet."""
    for kept in range(min(len(told), progress.MAX_RECOVERIES_TOLD), 0, -1):
        newest = tuple(schema.replace(each, dump_head="") for each in told[-kept:])
        whole = schema.replace(outcome, recoveries=newest)
        if len(_dump(whole).encode()) <= MAX_BYTES:
            return whole
    return outcome


def write_outcome(path: pathlib.Path, outcome: progress.WorkerOutcome) -> None:
    """Write the document in one go.

    The file is written in place: a termination log is a mounted file that cannot be replaced.

    Raises:
        ValueError: the document is longer than MAX_BYTES.
    """
    text = _dump(outcome)
    if len(text.encode()) > MAX_BYTES:
        raise ValueError(f"outcome must be at most {MAX_BYTES} bytes of JSON, got {len(text.encode())}.")
    path.write_text(text)


def _dump(outcome: progress.WorkerOutcome) -> str:
    return json.dumps(schema.encode(outcome), separators=(",", ":"))


def read_outcome(path: pathlib.Path) -> progress.WorkerOutcome | None:
    """Return a written outcome, or None where there is no whole one."""
    try:
        return schema.decode(progress.WorkerOutcome, json.loads(path.read_text()))
    except (OSError, ValueError):
        return None
