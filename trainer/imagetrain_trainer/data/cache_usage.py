"""How many bytes the files of a disk cache take, counted once for all processes that share it.

The number is read and written under a lock of its own, for microseconds. It is opened anew each time: a descriptor that
threads, or a parent and its fork, share would not keep them apart.
"""

import contextlib
import errno
import fcntl
import os
import pathlib
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple

from imagetrain_trainer.data import tfrecord

OPEN_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
"""How every file of the cache that holds a lock or a number is opened."""

_RECORD = struct.Struct("<16sqq")
_CRC = struct.Struct("<I")
_LOCK_SECONDS = 0.25  # the lock is held for microseconds, unless its holder is stopped: then go on without
_PAUSE_SECONDS = 0.0005


class Counts(NamedTuple):
    """What the file holds.

    Attributes:
        total_bytes: of all files, finished or not.
        added_bytes: sum of all bytes ever counted, which tells what was added during a scan.
    """

    total_bytes: int = 0
    added_bytes: int = 0


class Usage:
    """The counter in a file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._boot = _read_boot_id()

    @contextlib.contextmanager
    def locked(self) -> Iterator["LockedUsage"]:
        """Hold the lock for the block.

        Raises:
            OSError: the file cannot be opened; BlockingIOError when another process held the lock for too long.
        """
        descriptor = os.open(self._path, OPEN_FLAGS, 0o600)
        try:
            lock(descriptor)
            yield LockedUsage(descriptor, self._boot)
        finally:
            os.close(descriptor)

    def peek(self) -> int:
        """Return the total without the lock and without creating the file; 0 where nobody counted."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return 0
        try:
            counts = LockedUsage(descriptor, self._boot).read()
            return counts.total_bytes if counts else 0
        finally:
            os.close(descriptor)


class LockedUsage:
    """The counter while its lock is held."""

    def __init__(self, descriptor: int, boot: bytes) -> None:
        self._descriptor = descriptor
        self._boot = boot

    def read(self) -> Counts | None:
        """Return the counts; None when the file is new, damaged, or from before a boot (it may have lost writes)."""
        data = os.pread(self._descriptor, _RECORD.size + _CRC.size, 0)
        if len(data) < _RECORD.size + _CRC.size:
            return None
        record = data[: _RECORD.size]
        boot, total, added = _RECORD.unpack(record)
        is_valid = _CRC.pack(tfrecord.crc32c(record)) == data[_RECORD.size :] and boot == self._boot
        return Counts(total, added) if is_valid else None

    def write(self, counts: Counts) -> None:
        """Replace the counts."""
        record = _RECORD.pack(self._boot, *counts)
        os.pwrite(self._descriptor, record + _CRC.pack(tfrecord.crc32c(record)), 0)

    def add(self, size_bytes: int, limit_bytes: int) -> bool:
        """Count bytes that are about to be written; False, and nothing counted, where they exceed the limit."""
        now = self.read()
        if now is None or now.total_bytes + size_bytes > limit_bytes:
            return False
        self.write(Counts(now.total_bytes + size_bytes, now.added_bytes + size_bytes))
        return True

    def subtract(self, size_bytes: int) -> None:
        """Take off bytes that are gone."""
        now = self.read()
        if now is not None:
            self.write(now._replace(total_bytes=max(0, now.total_bytes - size_bytes)))


def lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> None:
    """Take flock's lock on a file that nobody locks for more than an instant.

    Raises:
        BlockingIOError: another process did, being stopped.
        OSError: the file system has no locks.
    """
    deadline = time.monotonic() + _LOCK_SECONDS
    while not try_lock(descriptor, kind):
        if time.monotonic() > deadline:
            raise BlockingIOError(errno.EAGAIN, "locked by a process that does not go on")
        time.sleep(_PAUSE_SECONDS)


def try_lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Take flock's lock without waiting; it ends with the descriptor, or with its process."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_boot_id() -> bytes:
    """Return the kernel's identity of this boot; zeros where there is none."""
    try:
        text = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text()
        return bytes.fromhex(text.strip().replace("-", "")).ljust(16, b"\0")[:16]
    except (OSError, ValueError):
        return bytes(16)
