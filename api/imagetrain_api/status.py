"""`status` of an ImageTrainingJob: what the operator writes there and the command line reads."""

import dataclasses

from imagetrain_api.schema import Document, setting

PHASES = (
    "Pending",  # seen, and nothing of it runs: refused, or waiting for quota, room or an image
    "Starting",  # pods exist, and no step is done yet
    "Training",
    "Publishing",
    "Restarting",  # an attempt ended, and the next one follows
    "Suspending",
    "Suspended",
    "Succeeded",
    "Failed",
)
CONDITIONS = ("Accepted", "Suspended", "WorkersReady", "Training", "Published", "Succeeded", "Failed")
MAX_ATTEMPTS_KEPT = 10  # newest records in `attempts`; `restarts` counts all
MAX_RECOVERIES_KEPT = 10  # newest records in `recoveries`
MAX_MESSAGE_CHARACTERS = 1024


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Condition(Document):
    """One condition (Kubernetes API conventions, "Typical status properties")."""

    type: str = setting(doc="Which question it answers.", choices=CONDITIONS)
    status: str = setting(doc="The answer.", choices=("True", "False", "Unknown"))
    reason: str = setting(doc="Why, as a CamelCase word.", max_length=128)
    message: str = setting(default="", doc="Why, in a sentence, and what to do.", max_length=MAX_MESSAGE_CHARACTERS)
    observed_generation: int = setting(default=0, doc="metadata.generation that it speaks of.", minimum=0)
    last_transition_time: str = setting(doc="When the answer changed, RFC 3339 in UTC.")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ProgressStatus(Document):
    """How far the run is, as its chief told."""

    epoch: int = setting(default=0, doc="Epochs finished.", minimum=0)
    total_epochs: int = setting(default=0, doc="Epochs of the run.", minimum=0)
    epochs: str = setting(default="", doc="Both, to be read: 2/5.")
    step: int = setting(default=0, doc="Global steps finished.", minimum=0)
    total_steps: int = setting(default=0, doc="Global steps of the run.", minimum=0)
    steps: str = setting(default="", doc="Both, to be read: 120/600.")
    step_time: str | None = setting(default=None, doc="When that step was first told, RFC 3339 in UTC.")
    workers: int | None = setting(default=None, doc="Workers that the group trains with.", minimum=1)
    images_per_second: float | None = setting(default=None, doc="Training throughput of the group.", minimum=0)
    eta_seconds: int | None = setting(default=None, doc="Estimated seconds to the end of training.", minimum=0)
    eta: str | None = setting(default=None, doc="The same, to be read: 2m10s.")
    loss: float | None = setting(default=None, doc="Mean training loss of the epoch so far.")
    accuracy: float | None = setting(
        default=None, doc="Newest top-1: of the test split at the end, before of validation, before of training."
    )
    checkpoint_step: int | None = setting(default=None, doc="Step of the newest checkpoint.", minimum=0)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStatus(Document):
    """One attempt: a worker group that was started and has ended."""

    attempt: int = setting(doc="Its number, from 0.", minimum=0)
    start_time: str | None = setting(default=None, doc="When its pods were asked for, RFC 3339 in UTC.")
    end_time: str | None = setting(default=None, doc="When its end was seen, RFC 3339 in UTC.")
    reason: str = setting(doc="Why it ended.", max_length=128)
    message: str = setting(default="", doc="The same in a sentence.", max_length=MAX_MESSAGE_CHARACTERS)
    rank: int | None = setting(default=None, doc="Rank of the worker that ended it, where one did.", minimum=0)
    exit_code: int | None = setting(default=None, doc="That worker's exit status (docs/exit-codes.md).")
    step: int | None = setting(default=None, doc="Newest step that the chief had told.", minimum=0)
    checkpoint_step: int | None = setting(default=None, doc="Step of the newest checkpoint that it told of.", minimum=0)
    lost_since: str | None = setting(
        default=None,
        doc="Since when time counts as lost: when its newest step was told, or its end where it did not get further "
        "than the attempt before. RFC 3339 in UTC; absent where it was suspended.",
    )
    resumed_step: int | None = setting(
        default=None,
        doc="Step of the checkpoint that the next attempt went on from, 0: from the start; absent: not known.",
        minimum=0,
    )
    lost_seconds: float | None = setting(
        default=None,
        doc="Time from then to the next attempt's first step beyond this one's, or to its end; absent until then. "
        "Steps are told each few seconds, so it is that exact.",
        minimum=0,
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryStatus(Document):
    """One recovery in place: the training processes of an attempt were lost, and new ones went on in the same pods."""

    attempt: int = setting(doc="Number of the attempt.", minimum=0)
    generation: int = setting(doc="Number of the start that was lost, over the whole run.", minimum=0)
    message: str = setting(default="", doc="All of it in a line.", max_length=MAX_MESSAGE_CHARACTERS)
    time: str | None = setting(default=None, doc="When it was noticed, RFC 3339 in UTC.")
    reason: str = setting(default="", doc="Why, as a CamelCase word.", max_length=128)
    rank: int | None = setting(default=None, doc="Rank of the worker that was at fault, where one was.", minimum=0)
    step: int | None = setting(default=None, doc="Newest step that was finished before.", minimum=0)
    resumed_step: int | None = setting(
        default=None, doc="Step of the checkpoint that it went on from; absent: from the start.", minimum=0
    )
    lost_seconds: float | None = setting(
        default=None, doc="Time from that newest step to the next one: detection, restart, steps done again.", minimum=0
    )
    dump_uri: str | None = setting(default=None, doc="Where the stacks of a group that hung lie.")
    dump_head: str | None = setting(default=None, doc="Innermost lines of the guilty rank's stack, where it hung.")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactStatus(Document):
    """One model format of the published run."""

    format: str = setting(doc="One of spec.output.formats.")
    uri: str | None = setting(default=None, doc="Where it lies; absent where the gate refused it.")
    size_bytes: int = setting(default=0, doc="Size of the model.", minimum=0)
    sha256: str | None = setting(default=None, doc="Digest of the file; absent for a folder.")
    accuracy: float | None = setting(default=None, doc="Top-1 on the test split.")
    latency_milliseconds: float | None = setting(default=None, doc="Median of single-image inference, one thread.")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OutputStatus(Document):
    """What was published."""

    manifest_uri: str = setting(doc="The manifest, which names every published object with its digest.")
    artifacts: tuple[ArtifactStatus, ...] = setting(default=(), doc="Every requested format.")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus(Document):
    """`status`."""

    observed_generation: int = setting(default=0, doc="metadata.generation that the status speaks of.", minimum=0)
    phase: str = setting(default="Pending", doc="A word for the columns, derived from the conditions.", choices=PHASES)
    reason: str = setting(default="", doc="Why it is there, as a CamelCase word.", max_length=128)
    message: str = setting(default="", doc="Why, and what to do next.", max_length=MAX_MESSAGE_CHARACTERS)
    ready: str = setting(default="", doc="Workers that are ready, of all: 2/2.")
    attempt: int | None = setting(default=None, doc="Number of the newest attempt, from 0.", minimum=0)
    attempt_start_time: str | None = setting(default=None, doc="When it was started, RFC 3339 in UTC.")
    restarts: int = setting(
        default=0, doc="Restarts after failures, in place and of the whole group, of recovery.maxRestarts.", minimum=0
    )
    run_id: str | None = setting(default=None, doc="Identity of the run: its folder below output.uri.")
    start_time: str | None = setting(
        default=None, doc="When the job, or its newest resumption, was started, RFC 3339 in UTC."
    )
    completion_time: str | None = setting(default=None, doc="When it reached its end, RFC 3339 in UTC.")
    conditions: tuple[Condition, ...] = setting(
        default=(), doc="Answers to what a user or a program may ask.", map_key="type"
    )
    progress: ProgressStatus | None = setting(default=None, doc="How far the run is.")
    attempts: tuple[AttemptStatus, ...] = setting(default=(), doc="Ended attempts, newest last.")
    recoveries: tuple[RecoveryStatus, ...] = setting(default=(), doc="Newest recoveries in place, newest last.")
    outputs: OutputStatus | None = setting(default=None, doc="What was published.")
