"""Takes in what the training process writes and logs it as this process's own, with the place that only this one knows.

The training process logs JSON lines (`worker.logs`); everything else, such as the messages of native code, is taken as
it is. The pipe is always read, so that a training process never waits for its log.
"""

import contextlib
import datetime as dt
import json
import logging
import os
import re
import threading
from typing import Any

_MAX_LINE_BYTES = 65536
_DRAIN_SECONDS = 1.0
_NATIVE = re.compile(r"([IWEF])\d{4} ")  # absl's prefix, such as "W0000 00:00:1795814925.039588   31218 port.cc:153] "
_LEVELS = {"I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR, "F": logging.CRITICAL}


class LogForwarder:
    """A pipe for the output of other processes, and the thread that logs what comes through it."""

    def __init__(self) -> None:
        read, self.descriptor = os.pipe()
        self._thread = threading.Thread(target=self._forward, args=(read,), name="log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Log what is left; waits a moment for the writers to end."""
        os.close(self.descriptor)
        self._thread.join(_DRAIN_SECONDS)

    def _forward(self, descriptor: int) -> None:
        with open(descriptor, "rb") as stream:
            while line := stream.readline(_MAX_LINE_BYTES):
                with contextlib.suppress(Exception):  # a line that cannot be logged must not stop the next
                    record = build_record(line.decode("utf-8", "replace").rstrip("\n"))
                    logging.getLogger(record.name).handle(record)


def build_record(line: str) -> logging.LogRecord:
    """Return the log record of a line."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return _decode(json.loads(line))
    native = _NATIVE.match(line)
    level = _LEVELS[native[1]] if native else logging.INFO
    return _record("training", level, line)


def _decode(document: dict[str, Any]) -> logging.LogRecord:
    level = logging.getLevelNamesMapping()[document["level"].upper()]
    record = _record(document["logger"], level, document["message"])
    record.created = dt.datetime.fromisoformat(document["time"]).timestamp()
    record.msecs = record.created % 1 * 1000
    record.exc_text = document.get("traceback")
    return record


def _record(name: str, level: int, message: str) -> logging.LogRecord:
    return logging.LogRecord(name, level, "", 0, message, None, None)
