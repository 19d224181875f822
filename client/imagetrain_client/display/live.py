"""The live display on a terminal: a bar for the run, its figures, and lines above it for what must stay."""

import types
from typing import Self

from rich import console as rich_console
from rich import live, progress, table, text

from imagetrain_client.display import wording
from imagetrain_client.executor import events

_REFRESHES_PER_SECOND = 8


class LiveDisplay:
    """Draws on a terminal."""

    def __init__(self, console: rich_console.Console) -> None:
        self._console = console
        self._bars = progress.Progress(
            progress.TextColumn("{task.description:<8}"),
            progress.BarColumn(bar_width=32),
            progress.TextColumn("{task.fields[count]}"),
            console=console,
        )
        self._epochs = self._bars.add_task("epoch", total=None, count="")
        self._steps = self._bars.add_task("step", total=None, count="")
        self._figures = text.Text()
        self._live = live.Live(console=console, refresh_per_second=_REFRESHES_PER_SECOND, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        self._draw("starting")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, event: events.Event) -> None:
        """Draw what changed."""
        match event:
            case events.Started():
                self._console.print(wording.started(event), highlight=False, soft_wrap=True)
            case events.Progressed():
                self._show_progress(event)
            case events.EpochEnded():
                self._console.print(wording.epoch_ended(event), highlight=False)
            case events.Replaced():
                self._console.print(wording.replaced(event), style="yellow", highlight=False, markup=False)
            case events.Recovered():
                self._console.print(event.message, style="yellow", highlight=False, markup=False)
            case events.Resized():
                self._console.print(wording.resized(event), style="yellow", highlight=False, markup=False)
            case events.Restarted():
                self._console.print(wording.restarted(event), style="yellow", highlight=False, markup=False)
                self._draw("restarting")
            case events.Stopping():
                self._console.print(wording.stopping(event), style="yellow", highlight=False)
                self._draw("saving…" if event.request == 1 else "stopping")
            case events.Ended():
                pass

    def _show_progress(self, event: events.Progressed) -> None:
        now = event.progress
        self._fill(self._epochs, now.epoch, now.total_epochs)
        self._fill(self._steps, now.step, now.total_steps)
        lines = [_state_line(event)]
        if now.loss is not None:
            lines.append(f"training loss {wording.figure(now.loss)}, accuracy {wording.percent(now.accuracy)}")
        if validation := wording.validation(now):
            lines.append(validation)
        self._draw(*lines)

    def _fill(self, bar: progress.TaskID, done: int, total: int) -> None:
        if total:  # it is not known before the data set is read
            self._bars.update(bar, completed=done, total=total, count=f"{done}/{total}")

    def _draw(self, *lines: str) -> None:
        self._figures = text.Text("\n".join(lines))
        grid = table.Table.grid()
        grid.add_row(self._bars)
        grid.add_row(self._figures)
        self._live.update(grid)


def _state_line(event: events.Progressed) -> str:
    now = event.progress
    parts = [wording.recovering(now) or now.phase + (f": {now.detail}" if now.detail else "")]
    fewer = f" of {event.full_size}" if event.workers < event.full_size else ""
    parts.append(f"workers {event.workers_ready}/{event.workers}{fewer} ready")
    if now.phase == "training":
        parts.append(f"{now.images_per_second:,.0f} images/s")
        if now.eta_seconds is not None:
            parts.append(f"ETA {wording.duration(now.eta_seconds)}")
    if event.restarts:
        parts.append(f"restarts {event.restarts}")
    return "  ".join(parts)
