"""The folder of the disk cache: where its files lie, how many bytes they take, and which must go.

Any number of processes share one folder, and each may be killed at any moment. What holds all the time:

- The files take no more than the bytes that `usage` counts: bytes are counted before a file is begun, and taken off
  after it is gone. A process that dies in between leaves a number that is too high; the next count of the folder mends
  it.
- `usage` is read and written under its own lock, for microseconds. Locks are flock's: they end with their process.
- Only one process at a time counts and evicts (lock `evicting`); nobody waits for it.
"""

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import secrets
import stat
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple

from imagetrain_trainer.data import cache_entry, tfrecord

LAYOUT = "v1"
"""Name of the folder below the user's; another layout of files would get another."""

_USAGE = "usage"
_EVICTING = "evicting"
_PARTIAL = "partial"
_FOLDERS = 256  # 100,000 entries: 400 files a folder
_OPEN_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_USAGE_RECORD = struct.Struct("<16sqq")
_CRC = struct.Struct("<I")
_LOCK_SECONDS = 0.25  # the lock is held for microseconds, unless its holder is stopped: then go on without
_KEPT_SHARE = 0.9  # eviction goes on to this share, so that the cost of looking at all files is spread over many puts
_UNLINKS_A_TIME = 32
_NO_BOOT = bytes(16)


class Usage(NamedTuple):
    """What `usage` holds.

    Attributes:
        total_bytes: of all files, finished or not.
        added_bytes: sum of all bytes ever counted, which tells what was added during a scan.
    """

    total_bytes: int
    added_bytes: int


class Found(NamedTuple):
    """An entry seen by a scan; the oldest sorts first."""

    used_ns: int
    size_bytes: int
    name: str


@dataclasses.dataclass(slots=True)
class Evicted:
    """What one eviction removed."""

    entries: int = 0
    size_bytes: int = 0


class CacheFolder:
    """The files of one cache. No state but the paths: usable by any thread, and after a fork."""

    def __init__(self, root: pathlib.Path, max_bytes: int) -> None:
        self.place = root.absolute() / LAYOUT
        self.max_bytes = max_bytes
        self._place = str(self.place)
        self._boot = _read_boot_id()

    def prepare(self) -> int:
        """Make the folders, collect what killed writers left, and count the files where nobody has since the boot.

        Returns:
            The user id that this file system shows as the owner of what this process writes.

        Raises:
            OSError: the folder cannot be made or written.
        """
        self.place.parent.mkdir(parents=True, exist_ok=True)
        for folder in (self.place, self.place / _PARTIAL):
            folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(f"{self._place}/{_USAGE}", _OPEN_FLAGS, 0o600)
        os.close(descriptor)
        owner = self._probe()
        if self.place.lstat().st_uid not in (owner, os.geteuid(), 0) or not stat.S_ISDIR(self.place.lstat().st_mode):
            raise PermissionError(1, "the folder belongs to another user", self._place)
        with self._evicting() as is_mine:
            if is_mine:
                self._collect_partial_files()
                with self._usage() as usage:
                    is_counted = self._read_usage(usage) is not None
                if not is_counted:
                    self._scan()
        return owner

    def _probe(self) -> int:
        """Write and remove a file, as a put would; return its owner."""
        path = self._partial_path(0)
        descriptor = os.open(path, _OPEN_FLAGS | os.O_EXCL, 0o600)
        try:
            return os.fstat(descriptor).st_uid
        finally:
            os.close(descriptor)
            _unlink(path)

    def path_of(self, name: str) -> str:
        """Return where the entry of this file name lies."""
        return f"{self._place}/{name[-2:]}/{name}"

    def used_bytes(self) -> int:
        """Return the bytes that all files take, or may take if a process was killed lately; 0 where nobody counted."""
        try:
            descriptor = os.open(f"{self._place}/{_USAGE}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return 0
        try:
            usage = self._read_usage(descriptor)
            return usage.total_bytes if usage else 0
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def partial_file(self, size_bytes: int) -> Iterator[tuple[int, str] | None]:
        """Count a file's bytes and open it, unfinished, for the block; yield its descriptor and path.

        None where it does not fit now. What is not moved away by the end of the block is removed again. The lock on
        the file says that its writer lives.

        Raises:
            OSError: the disk failed.
        """
        path = self._partial_path(size_bytes)
        with self._usage() as usage:
            now = self._read_usage(usage)
            if now is None or now.total_bytes + size_bytes > self.max_bytes:
                descriptor = None
            else:
                self._write_usage(usage, Usage(now.total_bytes + size_bytes, now.added_bytes + size_bytes))
                # Within the lock: who counts the folder must find the file of every byte that is counted.
                descriptor = self._create_partial_file(usage, path, size_bytes)
        if descriptor is None:
            yield None
            return
        try:
            yield descriptor, path
        finally:
            os.close(descriptor)
            if _unlink(path):
                self.release(size_bytes)

    def _create_partial_file(self, usage: int, path: str, size_bytes: int) -> int:
        try:
            descriptor = os.open(path, _OPEN_FLAGS | os.O_EXCL, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._change_usage(usage, -size_bytes)
            raise
        return descriptor

    def publish(self, path: str, name: str) -> None:
        """Move a finished file to its place.

        Raises:
            OSError: the disk failed.
        """
        target = pathlib.Path(self.path_of(name))
        try:
            pathlib.Path(path).rename(target)
        except FileNotFoundError:
            target.parent.mkdir(mode=0o700, exist_ok=True)
            pathlib.Path(path).rename(target)

    def remove(self, name: str, size_bytes: int) -> bool:
        """Delete an entry; return whether it was there and could be deleted."""
        is_removed = _unlink(self.path_of(name))
        if is_removed:
            self.release(cache_entry.footprint(size_bytes))
        return is_removed

    def release(self, size_bytes: int) -> None:
        """Take bytes off the count; where that fails, the count stays too high until the next scan."""
        with contextlib.suppress(OSError), self._usage() as usage:
            self._change_usage(usage, -size_bytes)

    def make_room(self, size_bytes: int) -> Evicted | None:
        """Remove the entries that were not used for the longest, down to 90% of what is allowed.

        Args:
            size_bytes: of what must fit beside those 90%, if it can.

        Returns:
            What was removed, or None when another process is at it.

        Raises:
            OSError: the disk failed.
        """
        with self._evicting() as is_mine:
            if not is_mine:
                return None
            total, entries = self._scan()
            goal = min(int(self.max_bytes * _KEPT_SHARE), self.max_bytes - size_bytes)
            return self._evict(entries, total - goal)

    def _evict(self, entries: list[Found], excess_bytes: int) -> Evicted:
        evicted, batch = Evicted(), 0
        for number, entry in enumerate(sorted(entries), 1):
            if evicted.size_bytes >= excess_bytes:
                break
            if _unlink(self.path_of(entry.name)):
                evicted.entries += 1
                evicted.size_bytes += entry.size_bytes
                batch += entry.size_bytes
            if not number % _UNLINKS_A_TIME:  # others may put as soon as there is room
                self.release(batch)
                batch = 0
        self.release(batch)
        return evicted

    def _scan(self) -> tuple[int, list[Found]]:
        """Count all files and correct `usage`. The lock `evicting` is held.

        What others add meanwhile is counted twice where the scan sees it, and never missed.
        """
        with self._usage() as usage:
            before = self._read_usage(usage) or Usage(0, 0)
            self._write_usage(usage, before)
        total = self._collect_partial_files()
        entries = list(self._entries())
        total += sum(entry.size_bytes for entry in entries)
        with self._usage() as usage:
            after = self._read_usage(usage) or before
            total += after.added_bytes - before.added_bytes
            self._write_usage(usage, Usage(total, after.added_bytes))
        return total, entries

    def _entries(self) -> Iterator[Found]:
        for number in range(_FOLDERS):
            try:
                with os.scandir(f"{self._place}/{number:02x}") as files:
                    for file in files:
                        if cache_entry.is_file_name(file.name):
                            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                                status = file.stat(follow_symlinks=False)
                                size_bytes = cache_entry.footprint(status.st_size)
                                yield Found(status.st_mtime_ns, size_bytes, file.name)
            except FileNotFoundError:
                continue

    def _collect_partial_files(self) -> int:
        """Remove the unfinished files of writers that are gone; return the counted bytes of the others.

        A removed file's bytes stay in `usage` until the next scan, but for those of the scan that calls this.
        """
        alive = 0
        with self._usage(), os.scandir(f"{self._place}/{_PARTIAL}") as files:  # no writer is about to lock its file
            for file in files:
                if _is_abandoned(file.path):
                    _unlink(file.path)
                else:
                    alive += _partial_size(file.name)
        return alive

    def _partial_path(self, size_bytes: int) -> str:
        return f"{self._place}/{_PARTIAL}/{size_bytes}-{secrets.token_hex(8)}"

    @contextlib.contextmanager
    def _evicting(self) -> Iterator[bool]:
        """Hold the lock of who counts and evicts; False when another has it."""
        descriptor = os.open(f"{self._place}/{_EVICTING}", _OPEN_FLAGS, 0o600)
        try:
            yield _try_lock(descriptor)
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _usage(self) -> Iterator[int]:
        """Hold the lock of `usage`; yield its descriptor.

        Opened anew each time: a descriptor that threads, or a parent and its fork, share would not keep them apart.
        """
        descriptor = os.open(f"{self._place}/{_USAGE}", _OPEN_FLAGS, 0o600)
        try:
            deadline = time.monotonic() + _LOCK_SECONDS
            while not _try_lock(descriptor):
                if time.monotonic() > deadline:
                    raise BlockingIOError(11, "its lock is held by a process that does not go on", self._place)
                time.sleep(0.0005)
            yield descriptor
        finally:
            os.close(descriptor)

    def _read_usage(self, descriptor: int) -> Usage | None:
        """Return the counts; None when the file is new, damaged, or from before a boot (it may have lost writes)."""
        data = os.pread(descriptor, _USAGE_RECORD.size + _CRC.size, 0)
        if len(data) < _USAGE_RECORD.size + _CRC.size:
            return None
        record = data[: _USAGE_RECORD.size]
        boot, total, added = _USAGE_RECORD.unpack(record)
        is_valid = _CRC.pack(tfrecord.crc32c(record)) == data[_USAGE_RECORD.size :] and boot == self._boot
        return Usage(total, added) if is_valid else None

    def _write_usage(self, descriptor: int, usage: Usage) -> None:
        record = _USAGE_RECORD.pack(self._boot, usage.total_bytes, usage.added_bytes)
        os.pwrite(descriptor, record + _CRC.pack(tfrecord.crc32c(record)), 0)

    def _change_usage(self, descriptor: int, difference_bytes: int) -> None:
        now = self._read_usage(descriptor)
        if now is not None:
            self._write_usage(descriptor, now._replace(total_bytes=max(0, now.total_bytes + difference_bytes)))


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_abandoned(path: str) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return _try_lock(descriptor)
    finally:
        os.close(descriptor)


def _partial_size(name: str) -> int:
    size = name.partition("-")[0]
    return int(size) if size.isdecimal() else 0


def _unlink(path: str) -> bool:
    try:
        pathlib.Path(path).unlink()
    except OSError:
        return False
    return True


def _read_boot_id() -> bytes:
    """Return the kernel's identity of this boot; zeros where there is none."""
    try:
        text = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text()
        return bytes.fromhex(text.strip().replace("-", "")).ljust(16, b"\0")[:16]
    except (OSError, ValueError):
        return _NO_BOOT
