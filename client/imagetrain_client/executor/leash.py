"""Starts a worker whose life is bound to the process that started it: `python leash.py PARENT_PID COMMAND...`.

When the parent dies, however it dies, the kernel sends the worker SIGTERM, so that it saves and ends as if it had been
asked to. The setting survives exec (prctl(2), PR_SET_PDEATHSIG), so this program replaces itself by the worker. It is a
file of its own, run without site packages, because code between fork and exec (`preexec_fn`) is unsafe beside threads.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_CANNOT_EXECUTE = 126  # as shells report it


def main() -> None:
    """Bind this process to its parent and become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the setting took hold
        sys.exit(128 + signal.SIGTERM)
    try:
        os.execv(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as error:
        sys.stderr.write(f"{command[0]} cannot be started: {error.strerror}. Install imagetrain again.\n")
        sys.exit(_CANNOT_EXECUTE)


if __name__ == "__main__":
    main()
