"""Names of runs: sortable by the time they began, and safe in object keys, host names and file names."""

import datetime as dt
import re
import secrets
import string

from imagetrain_trainer import errors

_ALPHABET = string.ascii_lowercase + string.digits
_SUFFIX_CHARACTERS = 4  # 1.7 million names a second: enough for the people who share an output prefix
_PATTERN = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # the rule of worker_config.WorkerConfig.run_id


def new_run_id(now: dt.datetime) -> str:
    """Return a name such as `20261124-101500-x7k2` for a run that begins at `now` (UTC)."""
    suffix = "".join(secrets.choice(_ALPHABET) for _ in range(_SUFFIX_CHARACTERS))
    return f"{now:%Y%m%d-%H%M%S}-{suffix}"


def check_run_id(text: str) -> str:
    """Return the name of a run as it was given.

    Raises:
        ConfigError: it cannot be one, such as a file name behind `--resume`.
    """
    if not _PATTERN.fullmatch(text):
        raise errors.ConfigError(
            f"--resume must be a run such as 20261124-101500-x7k2, got {text!r}. "
            "To resume the newest run, put --resume behind the manifest."
        )
    return text
