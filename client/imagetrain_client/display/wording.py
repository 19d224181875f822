"""Events of a run in words: pure text, shared by the live display and the plain lines."""

from imagetrain_api import progress as progress_module
from imagetrain_api import recoveries
from imagetrain_client.executor import events

_KIBI = 1024
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def duration(seconds: float) -> str:
    """Return `42 s`, `3:05` or `1:02:03`."""
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}" if minutes else f"{rest} s"


def size(size_bytes: int) -> str:
    """Return `512 B`, `3.4 KiB` and so on."""
    value = float(size_bytes)
    for unit in _UNITS:
        if value < _KIBI or unit == _UNITS[-1]:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= _KIBI
    raise AssertionError("the last unit takes every size")


def percent(share: float | None) -> str:
    """Return `98.33%`, or a dash for what is not known yet."""
    return "-" if share is None else f"{100 * share:.2f}%"


def figure(value: float | None) -> str:
    """Return a loss with four digits, or a dash for what is not known yet."""
    return "-" if value is None else f"{value:.4f}"


def validation(progress: progress_module.Progress) -> str:
    """Return the newest validation figures, or an empty text before the first."""
    if progress.validation_loss is None:
        return ""
    return f"validation loss {figure(progress.validation_loss)}, accuracy {percent(progress.validation_accuracy)}"


def started(event: events.Started) -> str:
    """Say what begins."""
    verb = "Resuming" if event.is_resumed else "Running"
    workers = f"{event.workers} worker{'s' if event.workers > 1 else ''}"
    return f"{verb} {event.job} as {event.run_id} with {workers}. Logs: {event.folder}/logs"


def state(event: events.Progressed) -> str:
    """Return the state of the group in one line."""
    progress = event.progress
    if text := recovering(progress):
        return text
    if event.workers_ready < event.workers:
        detail = f" ({progress.detail})" if progress.detail else ""
        return f"starting: {event.workers_ready}/{event.workers} workers ready{detail}"
    if progress.phase != "training" or not progress.total_steps:
        return progress.phase + (f": {progress.detail}" if progress.detail else "")
    parts = [
        f"epoch {min(progress.epoch + 1, progress.total_epochs)}/{progress.total_epochs}",
        f"step {progress.step}/{progress.total_steps}",
        f"{progress.images_per_second:,.0f} images/s",
    ]
    if event.workers < event.full_size:
        parts.append(f"{event.workers} of {event.full_size} workers")
    if progress.eta_seconds is not None:
        parts.append(f"ETA {duration(progress.eta_seconds)}")
    if progress.loss is not None:
        parts.append(f"loss {figure(progress.loss)}, accuracy {percent(progress.accuracy)}")
    if text := validation(progress):
        parts.append(text)
    return "  ".join(parts)


def recovering(progress: progress_module.Progress) -> str:
    """Say that the group starts again in place, and why; an empty text where it does not."""
    running = recoveries.running(progress.recoveries) if progress.phase == "starting" else None
    return f"recovering: {recoveries.describe_cause(running)}" if running else ""


def epoch_ended(event: events.EpochEnded) -> str:
    """Return the figures of a finished epoch."""
    text = f"epoch {event.epoch}/{event.total_epochs} done"
    if event.loss is not None:
        text += f"  loss {figure(event.loss)}, accuracy {percent(event.accuracy)}"
    if event.validation_loss is not None:
        text += f"  validation loss {figure(event.validation_loss)}, accuracy {percent(event.validation_accuracy)}"
    return text


def restarted(event: events.Restarted) -> str:
    """Say what failed, on which rank, and from where the group goes on."""
    begin = "from the start" if event.resume_step is None else f"from step {event.resume_step}"
    return (
        f"Restart {event.restart} of {event.max_restarts} in {event.delay_seconds:.0f} s, {begin}. "
        f"Rank {event.rank}, {event.reason}: {event.message}"
    )


def resized(event: events.Resized) -> str:
    """Say with how many workers the group goes on."""
    verb = "shrinks" if event.workers < event.workers_before else "grows"
    return f"The group {verb} to {event.workers} of {event.full_size} workers at step {event.step}."


def replaced(event: events.Replaced) -> str:
    """Say which worker was lost, and that another takes its place."""
    start = f"in {event.delay_seconds:.0f} s" if event.delay_seconds else "now"
    return f"Rank {event.rank} starts again in its place {start}; the others wait for it. {event.message}"


def stopping(event: events.Stopping) -> str:
    """Say that the run is being stopped."""
    if event.request > 1:
        return "Stopping at once."
    cause = event.cause[:1].upper() + event.cause[1:]
    return f"{cause}: saving… (interrupt again to stop without saving)"
