"""One JSON object a line, for programs: `event`, `time`, and the event's fields in camelCase."""

import dataclasses
import datetime as dt
import json
import types
from typing import Any, Self, TextIO

from imagetrain_api import schema
from imagetrain_api.exit_codes import ExitCode
from imagetrain_client.executor import events

_NAMES = {
    events.Started: "started",
    events.Progressed: "progress",
    events.EpochEnded: "epoch",
    events.Replaced: "replaced",
    events.Recovered: "recovered",
    events.Resized: "resized",
    events.Restarted: "restarted",
    events.Stopping: "stopping",
}


class JsonDisplay:
    """Writes events to a stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        """Nothing is left to tidy."""

    def show(self, event: events.Event) -> None:
        """Write one event; the end is written by `write_end`, when it is known what was published."""
        if not isinstance(event, events.Ended):
            self.write(_NAMES[type(event)], _fields(event))

    def write_end(self, event: events.Ended, published: dict[str, Any]) -> None:
        """Write the last line: `finished` or `failed`, with what was published."""
        name = "finished" if event.exit_code is ExitCode.DONE else "failed"
        self.write(name, {**_fields(event), "exitCode": int(event.exit_code), **published})

    def write(self, name: str, fields: dict[str, Any]) -> None:
        """Write one line."""
        now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        self._stream.write(json.dumps({"event": name, "time": now, **fields}) + "\n")
        self._stream.flush()


def _fields(event: events.Event) -> dict[str, Any]:
    fields = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    return {
        schema.camel_case(name): schema.encode(value) if isinstance(value, schema.Document) else value
        for name, value in fields.items()
    }
