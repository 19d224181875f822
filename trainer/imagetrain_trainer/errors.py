"""Errors of the trainer, each with the exit code that tells the rest of the system what happened.

    TrainerError
    ├── ConfigError               the job asks for what cannot be done
    ├── DataCorruptError          bytes do not match their checksum or format
    ├── NonFiniteLossError        the loss is infinite or not a number
    ├── GateRefusedError          every requested variant failed the accuracy gate
    ├── CrashLoopError            the same steps crash the process again and again
    ├── PeerLostError             a collective failed because another worker went away
    ├── PreemptedError            asked to stop; a checkpoint is saved
    ├── DiskFullError             a local disk is full
    ├── FencedError               a newer generation of the run has taken over
    └── StorageError              object storage; the message names the URI
        ├── AccessDeniedError
        ├── BucketNotFoundError
        ├── ObjectNotFoundError
        ├── ObjectExistsError     a conditional write found the object there
        └── StorageUnavailableError

`str(error)` is one line that names the place and the fix, and never holds a credential.
"""

from imagetrain_api.exit_codes import ExitCode


class TrainerError(Exception):
    """Base of all expected failures."""

    exit_code: ExitCode = ExitCode.INTERNAL


class ConfigError(TrainerError):
    """The manifest, the data set or the machine cannot satisfy what the job asks for."""

    exit_code = ExitCode.BAD_CONFIG


class DataCorruptError(TrainerError):
    """Stored bytes do not match their checksum, length or format."""

    exit_code = ExitCode.DATA_CORRUPT


class NonFiniteLossError(TrainerError):
    """The training loss became infinite or not a number."""

    exit_code = ExitCode.NON_FINITE_LOSS


class GateRefusedError(TrainerError):
    """No requested model variant passed the accuracy gate."""

    exit_code = ExitCode.GATE_REFUSED


class CrashLoopError(TrainerError):
    """The training process crashes at the same steps again and again."""

    exit_code = ExitCode.CRASH_LOOP


class PeerLostError(TrainerError):
    """A collective operation failed because another worker is gone."""

    exit_code = ExitCode.PEER_LOST


class PreemptedError(TrainerError):
    """The worker group was asked to stop, and saved its state first."""

    exit_code = ExitCode.PREEMPTED


class DiskFullError(TrainerError):
    """No space is left on a local disk or on a file:// store."""

    exit_code = ExitCode.DISK_FULL


class FencedError(TrainerError):
    """A newer generation of the run has taken over; this one may write no more checkpoints."""

    exit_code = ExitCode.FENCED


class StorageError(TrainerError):
    """Object storage could not do what was asked."""

    exit_code = ExitCode.STORAGE_UNAVAILABLE


class AccessDeniedError(StorageError):
    """The credentials are missing, wrong, expired, or not allowed to do this."""

    exit_code = ExitCode.ACCESS_DENIED


class BucketNotFoundError(StorageError):
    """The bucket does not exist."""

    exit_code = ExitCode.NOT_FOUND


class ObjectNotFoundError(StorageError):
    """The object does not exist."""

    exit_code = ExitCode.NOT_FOUND


class ObjectExistsError(StorageError):
    """A write that must create the object found one there."""

    exit_code = ExitCode.BAD_CONFIG


class StorageUnavailableError(StorageError):
    """Object storage did not answer, or answered with a passing failure, after all retries."""
