"""What every display of a run has in common."""

import types
from typing import Protocol, Self

from imagetrain_client.executor import events


class Display(Protocol):
    """Shows a run's events; a context manager, so that a terminal is left tidy."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""

    def show(self, event: events.Event) -> None:
        """Show one event."""
