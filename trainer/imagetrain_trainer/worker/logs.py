"""Log lines of a worker: its place on each, such as rank and step; text for people, or JSON lines for collectors."""

import datetime as dt
import json
import logging
from collections.abc import Callable, Mapping

Place = Callable[[], Mapping[str, int]]


class _JsonFormatter(logging.Formatter):
    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = place

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            **self._place(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line["traceback"] = record.exc_text
        return json.dumps(line)


class _TextFormatter(logging.Formatter):
    def __init__(self, place: Place) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(place)s %(message)s")
        self._place = place

    def format(self, record: logging.LogRecord) -> str:
        record.place = " ".join(f"{name}={value}" for name, value in self._place().items())
        return super().format(record)


def configure(log_format: str, rank: int, place: Place = dict) -> None:
    """Send the log of this process to standard error.

    Args:
        log_format: `text` or `json`.
        rank: of this worker.
        place: gives what else each line tells, such as the step.
    """

    def whole_place() -> Mapping[str, int]:
        return {"rank": rank, **place()}

    handler = logging.StreamHandler()
    handler.setFormatter((_JsonFormatter if log_format == "json" else _TextFormatter)(whole_place))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in ("boto3", "botocore", "absl", "tensorflow"):  # each credential found, each all-reduce planned
        logging.getLogger(name).setLevel(logging.WARNING)
