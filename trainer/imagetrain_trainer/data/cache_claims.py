"""Who fetches a piece that several processes of a node need at the same time: the first, and the others wait for it.

A claim is a locked file. The lock is flock's: it ends with its process, however that ends, so that nobody waits for the
dead. A waiter looks again and again, for a bounded time, and fetches for itself after that.
"""

import contextlib
import fcntl
import os
import pathlib
import threading
import time
from types import TracebackType
from typing import Self

from imagetrain_trainer.data import cache_usage

_FIRST_PAUSE_SECONDS = 0.002
_LONGEST_PAUSE_SECONDS = 0.05


class Claim:
    """The right to fetch a piece, until released, by any thread; a `with` block releases it."""

    def __init__(self, descriptor: int | None = None, path: str = "") -> None:
        self._descriptor = descriptor
        self._path = path
        self._lock = threading.Lock()

    def release(self) -> None:
        """Let the waiters go on. Twice is once."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        with contextlib.suppress(OSError):
            pathlib.Path(self._path).unlink()  # before the lock goes: no file is left of a claim that ended well
        os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def claim(path: str) -> Claim | None:
    """Take the claim that this file stands for; None when another thread or process has it.

    Raises:
        OSError: the disk failed.
    """
    while True:
        descriptor = os.open(path, cache_usage.OPEN_FLAGS, 0o600)
        try:
            if not cache_usage.try_lock(descriptor):
                os.close(descriptor)
                return None
            is_same = os.path.samestat(os.fstat(descriptor), os.stat(path))  # noqa: PTH116 - twice as fast
        except FileNotFoundError:
            is_same = False
        except BaseException:
            os.close(descriptor)
            raise
        if is_same:
            return Claim(descriptor, path)
        os.close(descriptor)  # its holder released it, and so removed it, between our opening and locking it


def wait(path: str, timeout_seconds: float) -> None:
    """Return when nobody has the claim any more, or when the time is over."""
    deadline, pause = time.monotonic() + timeout_seconds, _FIRST_PAUSE_SECONDS
    while is_claimed(path) and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def is_claimed(path: str) -> bool:
    """Say whether somebody has the claim."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return not cache_usage.try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)
