"""What a worker tells of its state: `/progress` while it runs, the outcome document when it ends."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from imagetrain_api.schema import Document, setting

PHASES = ("starting", "training", "evaluating", "checkpointing", "publishing", "done", "failed")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StorageReads(Document):
    """What one worker's process has read of the training split so far."""

    requests: int = setting(default=0, doc="Requests sent.", minimum=0)
    hedges: int = setting(default=0, doc="Second requests for late bytes.", minimum=0)
    retries: int = setting(default=0, doc="Requests sent again after a failure.", minimum=0)
    throttled: int = setting(default=0, doc="Answers that asked for fewer requests.", minimum=0)
    read_bytes: int = setting(default=0, doc="Bytes read.", minimum=0)
    cache_hits: int = setting(default=0, doc="Pieces found in the disk cache.", minimum=0)
    cache_misses: int = setting(default=0, doc="Pieces that were not there.", minimum=0)
    cache_hit_bytes: int = setting(default=0, doc="Bytes found in the disk cache.", minimum=0)


WAITS = ("", "input", "peers", "storage")
# What the time of a run goes to, in metrics and in the report; `recovery` is from the last finished step to the next.
TIME_STATES = ("training", "input_stall", "checkpoint", "evaluation", "recovery", "starting", "publishing")
MAX_SKIPPED_STEPS = 100  # a run that leaves out more has another fault than a few bad images
MAX_RECOVERIES_TOLD = 10  # newest ones in a report
MAX_HEAD_CHARACTERS = 1024  # of a stack; a status holds ten


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Recovery(Document):
    """A generation of the group that ended early, and how the next one went on in its place."""

    generation: int = setting(doc="Number of the generation that ended.", minimum=0)
    reason: str = setting(doc="Why, as a CamelCase word: of an exit code, or Killed, Frozen, Hung, ...", max_length=64)
    rank: int | None = setting(default=None, doc="Rank of the worker that ended it, where one did.", minimum=0)
    message: str = setting(
        default="", doc="What happened, without the step: Rank 1 was killed (SIGKILL).", max_length=512
    )
    step: int = setting(default=0, doc="Newest step that was finished before.", minimum=0)
    resumed_step: int | None = setting(
        default=None, doc="Step of the checkpoint that it went on from; absent: from the start.", minimum=0
    )
    detected_at: float = setting(default=0.0, doc="Unix time at which it was noticed.", minimum=0)
    resumed_at: float | None = setting(
        default=None,
        doc="Unix time at which a step behind `step` was finished; absent while the group is not there again.",
        minimum=0,
    )
    lost_seconds: float = setting(
        default=0.0,
        doc="Time from the finish of `step` to that of the next one: detection, restart, steps done again. "
        "While the group is not there again, the time until now or until the next recovery.",
        minimum=0,
    )
    dump_uri: str | None = setting(default=None, doc="Where the stacks of a group that hung lie.", max_length=2048)
    dump_head: str = setting(
        default="",
        doc="Innermost lines of the guilty rank's Python stack, where it hung.",
        max_length=MAX_HEAD_CHARACTERS,
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Document):
    """One worker's state. Figures are of the whole group unless their name says otherwise."""

    rank: int = setting(default=0, doc="Rank of the worker.", minimum=0)
    generation: int = setting(default=0, doc="Starts of the training process so far.", minimum=0)
    workers: int = setting(
        default=0, doc="Workers that this generation trains with; 0 before the first.", minimum=0, maximum=256
    )
    phase: str = setting(default="starting", doc="What it is doing.", choices=PHASES)
    detail: str = setting(default="", doc="A few words on the phase.", max_length=512)
    epoch: int = setting(default=0, doc="Epochs finished.", minimum=0)
    total_epochs: int = setting(default=0, doc="Epochs of the run.", minimum=0)
    step: int = setting(default=0, doc="Global steps finished.", minimum=0)
    total_steps: int = setting(default=0, doc="Global steps of the run.", minimum=0)
    images: int = setting(default=0, doc="Images trained on by the group since this process started.", minimum=0)
    images_per_second: float = setting(default=0.0, doc="Training throughput of the group, recent.", minimum=0)
    eta_seconds: float | None = setting(default=None, doc="Estimated seconds to the end of training.", minimum=0)
    loss: float | None = setting(default=None, doc="Mean training loss of the epoch so far.")
    accuracy: float | None = setting(default=None, doc="Training top-1 of the epoch so far.", minimum=0, maximum=1)
    validation_loss: float | None = setting(default=None, doc="Loss of the newest validation.")
    validation_accuracy: float | None = setting(
        default=None, doc="Top-1 of the newest validation.", minimum=0, maximum=1
    )
    learning_rate: float | None = setting(default=None, doc="Learning rate of the newest step.", minimum=0)
    input_stall_seconds: float = setting(default=0.0, doc="Time this worker waited for input.", minimum=0)
    storage: StorageReads = setting(default_factory=StorageReads, doc="What this worker read of the data.")
    checkpoint_step: int | None = setting(default=None, doc="Step of the newest checkpoint.", minimum=0)
    checkpoint_seconds: float = setting(default=0.0, doc="Time spent in saving checkpoints.", minimum=0)
    checkpoint_count: int = setting(default=0, doc="Checkpoints saved.", minimum=0)
    step_seconds_sum: float = setting(default=0.0, doc="Sum of step durations.", minimum=0)
    step_seconds_buckets: tuple[int, ...] = setting(
        default=(), doc="Steps per duration bucket (STEP_BUCKETS_SECONDS, then the rest)."
    )
    seconds_by_phase: Mapping[str, float] = setting(default_factory=dict, doc="Wall time of this worker by phase.")
    updated_at: float = setting(default=0.0, doc="Unix time of this report.", minimum=0)
    entered_step: int = setting(default=0, doc="Step that was begun, or is about to be.", minimum=0)
    entered_last_step: int = setting(
        default=0, doc="Last of the steps that run together from there; any of them may be under way.", minimum=0
    )
    skipped_steps: tuple[int, ...] = setting(
        default=(), doc="Steps that were left out, for the group crashed at them.", max_items=MAX_SKIPPED_STEPS
    )
    waiting_for: str = setting(default="", doc="What the training process waits for.", choices=WAITS)
    beat_at: float = setting(default=0.0, doc="Unix time of the training process's newest sign of life.", minimum=0)
    recoveries: tuple[Recovery, ...] = setting(
        default=(), doc="Newest recoveries in place, oldest first (told by rank 0).", max_items=MAX_RECOVERIES_TOLD
    )


STEP_BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOutcome(Document):
    """How a worker ended; at most 4,096 bytes of JSON, for Kubernetes cuts a termination message there."""

    exit_code: int = setting(doc="Exit status (imagetrain_api.exit_codes).", minimum=0, maximum=255)
    reason: str = setting(doc="The exit code's CamelCase reason.")
    message: str = setting(default="", doc="One line that names the place and the fix.", max_length=2048)
    manifest_uri: str | None = setting(default=None, doc="The published manifest (chief only).")
    summary: Mapping[str, Any] = setting(default_factory=dict, doc="Final figures (chief only).")
    recoveries: tuple[Recovery, ...] = setting(
        default=(),
        doc="Newest recoveries in place, oldest first, as many as fit (chief only).",
        max_items=MAX_RECOVERIES_TOLD,
    )
