"""What a run tells whoever displays it, in the order it happens. Nothing here prints."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from imagetrain_api import progress as progress_module
from imagetrain_api.exit_codes import ExitCode


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The run has a folder, and its first processes are about to start."""

    run_id: str
    job: str
    workers: int
    epochs: int
    folder: str
    output_uri: str
    is_resumed: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """The newest state of the group.

    Attributes:
        progress: the chief's figures.
        workers_ready: how many workers are past their start.
        workers: how many the group trains with; before its first generation, the full size.
        full_size: `spec.workers`.
        restarts: starts of the group after the first.
    """

    progress: progress_module.Progress
    workers_ready: int
    workers: int
    full_size: int
    restarts: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EpochEnded:
    """One more epoch is finished, with the training figures seen last in it."""

    epoch: int
    total_epochs: int
    step: int
    loss: float | None
    accuracy: float | None
    validation_loss: float | None
    validation_accuracy: float | None
    images_per_second: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Resized:
    """The group goes on from `step` with fewer workers than before, or with more, of `full_size`."""

    workers: int
    workers_before: int
    full_size: int
    step: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Restarted:
    """The group ended and starts again after `delay_seconds`."""

    restart: int
    max_restarts: int
    reason: str
    rank: int
    message: str
    resume_step: int | None
    delay_seconds: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """One worker was lost, and another starts in its place after `delay_seconds`; the others wait for it."""

    rank: int
    message: str
    delay_seconds: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """The training processes were lost, and new ones went on in their place: `message` tells all of it in a line."""

    recovery: progress_module.Recovery
    message: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """Somebody asked the run to stop: the workers save first, and after a second request they do not."""

    cause: str
    request: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The run is over.

    Attributes:
        exit_code: of the command.
        reason: its CamelCase word.
        message: one line for the user.
        rank: the worker whose end explains it; None when nothing failed.
        log: that worker's log file, or the chief's.
        checkpoint_step: newest checkpoint that was seen.
        manifest_uri: what was published.
        summary: the chief's final figures.
        restarts: starts of the group after the first.
        recoveries: those in place, without a new start of the group.
        replaced: workers that were started anew in such a recovery.
        seconds: length of the command's run.
    """

    run_id: str
    exit_code: ExitCode
    reason: str
    message: str
    rank: int | None
    log: str
    checkpoint_step: int | None
    manifest_uri: str | None
    summary: Mapping[str, Any]
    restarts: int
    recoveries: int
    replaced: int
    seconds: float


Event = Started | Progressed | EpochEnded | Replaced | Recovered | Resized | Restarted | Stopping | Ended
Listener = Callable[[Event], None]
