"""Binds a process to the one that started it, and starts a module so bound: `-m ...lifeline PARENT_PID MODULE`.

The kernel sends a bound process SIGKILL when its parent dies, however that dies (prctl(2), PR_SET_PDEATHSIG). The
process sets it itself, as its first act: code between fork and exec (`preexec_fn`) is unsafe beside threads.
"""

import ctypes
import importlib
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_PR_SET_CHILD_SUBREAPER = 36


def bind_to(parent: int) -> None:
    """End this process when `parent`, which must be its parent, dies; at once if it is dead already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the setting took hold
        os._exit(128 + signal.SIGKILL)


def become_subreaper() -> None:
    """Make this process the parent of all its descendants whose own parent dies (prctl(2)), as process 1 is."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def main() -> None:
    """Bind this process and run a module's `main`."""
    bind_to(int(sys.argv[1]))
    importlib.import_module(sys.argv[2]).main()


if __name__ == "__main__":
    main()
