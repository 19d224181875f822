"""Takes the stacks of a training process that hangs: what its threads do, in Python, in native code, in the kernel.

Three sources, each of which works where another does not. faulthandler, in the process itself (training/diagnosis.py),
answers unless the process is stopped. py-spy, where it is installed and may look, adds native frames and the names of
threads; it reads the memory of a stopped process too. /proc tells where the kernel has put each thread to sleep.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

from imagetrain_trainer.worker import process_state, stack_text

STACK_FILE = "stacks.txt"  # in the work folder; the training process gets its path as names.ENV_STACK_FILE
_STACK_SIGNAL = signal.SIGUSR1
# Together with the look at /proc below the 3 s that the coordinator gives (rendezvous/settings.py).
_PYTHON_SECONDS = 0.6
_SPY_SECONDS = 0.5  # 0.03 s on an idle machine
_NATIVE_SECONDS = 1.5  # 0.9 s of processor time for a process with TensorFlow: its symbols are many
_POLL_SECONDS = 0.02
_SETTLED_POLLS = 5  # as many without a further byte are the end of a dump
_BUSY_SHARE = 0.5  # of one core: the process computes, and waits for nobody
_MAX_THREADS = 200
_MAX_TEXT = 1 << 20


def take(pid: int, folder: pathlib.Path) -> stack_text.StackDump:
    """Take the stacks of a training process; what cannot be had is left out, and the dump says so.

    It takes 0.3 to 2.6 s and leaves the process as it was, but for a system call that a signal interrupts.

    Args:
        pid: of the training process.
        folder: the work folder, with STACK_FILE in it.
    """
    started_at, before = time.monotonic(), process_state.read_process(pid)
    can_run = before is not None and before.state not in (process_state.STOPPED, "D")
    own = _ask_process(pid, folder / STACK_FILE) if can_run else ""
    middle, middle_at = process_state.read_process(pid), time.monotonic()
    spied = _spy(pid, can_pause=can_run)
    share = 0.0
    if before is not None and middle is not None:
        share = (middle.cpu_seconds - before.cpu_seconds) / max(0.05, middle_at - started_at)
    python = spied or own or "No Python stacks: the process does not answer, and py-spy is not there or may not look.\n"
    text = f"{_describe(pid, before, share)}\n{python}\n{_describe_threads(pid)}"
    is_stopped = before is not None and before.state == process_state.STOPPED
    return stack_text.read_dump(text[:_MAX_TEXT], is_busy=share > _BUSY_SHARE, is_stopped=is_stopped)


def _ask_process(pid: int, path: pathlib.Path) -> str:
    """Return what faulthandler writes when it is asked to."""
    if not process_state.catches(pid, _STACK_SIGNAL):
        return ""  # it is not listening yet, and the signal would end it
    with contextlib.suppress(OSError):
        os.truncate(path, 0)
        os.kill(pid, _STACK_SIGNAL)
        return _read_settled(path)
    return ""


def _read_settled(path: pathlib.Path) -> str:
    deadline, size, polls = time.monotonic() + _PYTHON_SECONDS, 0, 0
    while time.monotonic() < deadline and polls < _SETTLED_POLLS:
        time.sleep(_POLL_SECONDS)
        now = path.stat().st_size
        polls = polls + 1 if now == size and now else 0
        size = now
    return path.read_text(errors="replace")


def _spy(pid: int, *, can_pause: bool) -> str:
    """Return py-spy's dump, with native frames where it may pause the process; nothing where there is no py-spy."""
    beside = pathlib.Path(sys.executable).with_name("py-spy")
    command = str(beside) if beside.exists() else shutil.which("py-spy")
    if command is None:
        return ""
    asked = [command, "dump", "--full-filenames", "--pid", str(pid)]
    python = _run([*asked, "--nonblocking"], _SPY_SECONDS)
    native = _run([*asked, "--native"], _NATIVE_SECONDS) if python and can_pause else ""
    return native or python


def _run(command: list[str], seconds: float) -> str:
    try:
        done = subprocess.run(command, capture_output=True, timeout=seconds, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    text = done.stdout.decode(errors="replace")
    return text if done.returncode == 0 and "Thread" in text else ""


def _describe(pid: int, state: process_state.ProcessState | None, share: float) -> str:
    if state is None:
        return f"Process {pid} has ended."
    return (
        f"Process {pid}: state {state.state}, {state.threads} threads, {state.cpu_seconds:.1f} s of processor time, "
        f"{share:.0%} of a core while this was taken.\n"
    )


def _describe_threads(pid: int) -> str:
    threads = process_state.read_threads(pid)
    rows = [f"{each.id:>8} {each.state} {each.name:<15} {each.waits_in}" for each in threads[:_MAX_THREADS]]
    left = [f"... and {len(threads) - _MAX_THREADS} more"] if len(threads) > _MAX_THREADS else []
    return "\n".join(["Kernel: thread, state, name, sleeps in", *rows, *left, ""])
