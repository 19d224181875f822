"""Plain lines, for logs and pipes: one at each change of phase and epoch, and one a few seconds between."""

import time
import types
from collections.abc import Callable
from typing import Self, TextIO

from imagetrain_client.display import wording
from imagetrain_client.executor import events

SECONDS_BETWEEN_LINES = 5.0


class PlainDisplay:
    """Writes lines to a stream."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._last_at = -SECONDS_BETWEEN_LINES
        self._last_phase = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        """Nothing is left to tidy."""

    def show(self, event: events.Event) -> None:
        """Write a line, unless the event is one of many."""
        match event:
            case events.Started():
                self._write(wording.started(event))
            case events.Progressed():
                self._show_progress(event)
            case events.EpochEnded():
                self._write(wording.epoch_ended(event))
            case events.Replaced():
                self._write(wording.replaced(event))
            case events.Recovered():
                self._write(event.message)
            case events.Resized():
                self._write(wording.resized(event))
            case events.Restarted():
                self._last_phase = ""
                self._write(wording.restarted(event))
            case events.Stopping():
                self._write(wording.stopping(event))
            case events.Ended():
                pass

    def _show_progress(self, event: events.Progressed) -> None:
        phase = event.progress.phase
        is_first = phase != self._last_phase and phase in ("training", "publishing")
        if is_first or self._clock() - self._last_at >= SECONDS_BETWEEN_LINES:
            self._last_phase = phase
            self._write(wording.state(event))

    def _write(self, line: str) -> None:
        self._last_at = self._clock()
        self._stream.write(f"{line}\n")
        self._stream.flush()
