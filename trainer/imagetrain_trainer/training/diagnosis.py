"""Lets the supervisor see what the training process does when it hangs. No TensorFlow here."""

import ctypes
import faulthandler
import os
import pathlib
import signal

STACK_SIGNAL = signal.SIGUSR1
_PR_SET_PTRACER = 0x59616D61  # prctl(2)
_PR_SET_PTRACER_ANY = ctypes.c_ulong(-1)


def enable(path: pathlib.Path) -> None:
    """Write the Python stacks of all threads to the end of a file at each SIGUSR1.

    The handler of faulthandler is C and takes no locks: it answers too when a native call holds the interpreter's lock.
    Where Yama restricts tracing to ancestors, this process lets its siblings, such as py-spy, read its memory; they are
    the same user's and, in a pod, the same job's.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    faulthandler.register(STACK_SIGNAL, file=file, all_threads=True, chain=False)
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _PR_SET_PTRACER_ANY, 0, 0, 0)
