"""Log lines of a worker: `rank` on each, text for people or one JSON object a line for collectors."""

import datetime as dt
import json
import logging


class _JsonFormatter(logging.Formatter):
    def __init__(self, rank: int) -> None:
        super().__init__()
        self._rank = rank

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "rank": self._rank,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure(log_format: str, rank: int) -> None:
    """Send the log of this process to standard error."""
    handler = logging.StreamHandler()
    if log_format == "json":
        handler.setFormatter(_JsonFormatter(rank))
    else:
        handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)-7s rank={rank} %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in ("boto3", "botocore", "absl", "tensorflow"):  # each credential found, each all-reduce planned
        logging.getLogger(name).setLevel(logging.WARNING)
