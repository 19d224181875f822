"""Exit codes of a worker: what happened, and whether another attempt can help.

One table for the trainer (which exits with them), the supervisor and the pod failure policy (which act on them), and
the status reason (which tells the user). Codes avoid 1-63, which programs use for their own ends, 64-78 (BSD
sysexits.h), and 126-255 (shell and signal exits).
"""

import dataclasses
import enum


class ExitCode(enum.IntEnum):
    """Process exit status of a worker."""

    DONE = 0
    PEER_LOST = 80
    HUNG = 81
    PREEMPTED = 82
    STORAGE_UNAVAILABLE = 83
    DISK_FULL = 84
    OUT_OF_MEMORY = 85
    FENCED = 86
    BAD_CONFIG = 100
    DATA_CORRUPT = 101
    ACCESS_DENIED = 102
    NON_FINITE_LOSS = 103
    GATE_REFUSED = 104
    NOT_FOUND = 105
    CRASH_LOOP = 106
    INTERNAL = 110


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What one exit code means.

    Attributes:
        reason: CamelCase word for a Kubernetes condition.
        is_retryable: whether the same job may succeed when it is started again unchanged.
        meaning: one sentence for the user.
        advice: what to do next.
    """

    reason: str
    is_retryable: bool
    meaning: str
    advice: str


OUTCOMES: dict[ExitCode, Outcome] = {
    ExitCode.DONE: Outcome("Completed", False, "The job finished and its models are published.", "Nothing to do."),
    ExitCode.PEER_LOST: Outcome(
        "PeerLost", True, "Another worker of the group was lost.", "The group resumes from its newest checkpoint."
    ),
    ExitCode.HUNG: Outcome(
        "Hung", True, "No step finished within the step timeout.", "The group resumes from its newest checkpoint."
    ),
    ExitCode.PREEMPTED: Outcome(
        "Preempted", True, "The worker was asked to stop and saved a checkpoint.", "Resume it when you like."
    ),
    ExitCode.STORAGE_UNAVAILABLE: Outcome(
        "StorageUnavailable", True, "Object storage did not answer.", "Check the endpoint and the network."
    ),
    ExitCode.DISK_FULL: Outcome(
        "DiskFull", True, "A local disk or the output storage is full.", "Free space, then resume."
    ),
    ExitCode.OUT_OF_MEMORY: Outcome(
        "OutOfMemory", True, "The training process was killed, for memory ran out.", "Raise the memory limit."
    ),
    # Two groups of one run that start again would fence each other in turn.
    ExitCode.FENCED: Outcome(
        "Fenced", False, "A newer generation of the run has taken over.", "Nothing to do: that generation goes on."
    ),
    ExitCode.BAD_CONFIG: Outcome("BadConfig", False, "The job asks for what cannot be done.", "Correct the manifest."),
    ExitCode.DATA_CORRUPT: Outcome(
        "DataCorrupt", False, "The data set does not match its checksums.", "Pack or upload the data set again."
    ),
    ExitCode.ACCESS_DENIED: Outcome(
        "AccessDenied", False, "Object storage refused the credentials.", "Check the key and the bucket's policy."
    ),
    ExitCode.NON_FINITE_LOSS: Outcome(
        "NonFiniteLoss",
        False,
        "The loss became infinite or not a number.",
        "Lower the learning rate or check the data.",
    ),
    ExitCode.GATE_REFUSED: Outcome(
        "GateRefused", False, "Every requested model variant was refused by the accuracy gate.", "Relax output.gate."
    ),
    ExitCode.NOT_FOUND: Outcome(
        "NotFound", False, "The bucket, data set or object does not exist.", "Check the URI, or create the bucket."
    ),
    ExitCode.CRASH_LOOP: Outcome(
        "CrashLoop",
        False,
        "The training process crashed twice at the same step.",
        "Look at that step's images, or set recovery.skipPoisonBatches.",
    ),
    ExitCode.INTERNAL: Outcome("InternalError", True, "The worker failed unexpectedly.", "Read the worker's log."),
}


def find_outcome(code: int) -> Outcome:
    """Return the outcome of any process exit status; an unknown one counts as an internal error (retryable)."""
    try:
        return OUTCOMES[ExitCode(code)]
    except ValueError:
        return OUTCOMES[ExitCode.INTERNAL]
