"""How errors end the command: what is printed, and the exit status."""

import errno

from imagetrain_api import exit_codes, schema
from imagetrain_api.exit_codes import ExitCode
from imagetrain_client import errors as client_errors
from imagetrain_trainer import errors

PROGRAM = "imagetrain"
INTERRUPTED_STATUS = 130  # as shells report a program that SIGINT ended
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class CommandEnd(Exception):  # noqa: N818 - an end is not always an error
    """The command is over and everything is said: only the exit status is left."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"exit status {int(exit_code)}")
        self.exit_code = exit_code


def describe(error: Exception) -> tuple[int, list[str]]:
    """Return the exit status and the lines of text that an error deserves."""
    if isinstance(error, client_errors.InvalidManifestError):
        return error.exit_code, [str(error), *(f"  {line}" for line in error.lines)]
    if isinstance(error, errors.TrainerError):
        return error.exit_code, [" ".join(str(error).split())]
    if isinstance(error, schema.ValidationError):
        return ExitCode.BAD_CONFIG, [str(each) for each in error.errors]
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        code = ExitCode.DISK_FULL if error.errno in _DISK_FULL else ExitCode.BAD_CONFIG
        advice = exit_codes.OUTCOMES[code].advice if code is ExitCode.DISK_FULL else "Check the path and its owner."
        return code, [f"{place}{error.strerror or error}. {advice}"]
    cause = " ".join(f"{type(error).__name__}: {error}".split())
    return ExitCode.INTERNAL, [f"unexpected error: {cause}. Run it again with --debug and report the traceback."]
