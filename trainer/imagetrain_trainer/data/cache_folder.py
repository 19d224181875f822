"""The folder of the disk cache: where its files lie, how they come and go. What goes is `cache_eviction`'s to say.

Any number of processes share one folder, and each may be killed at any moment. What holds all the time:

- The files take no more than the bytes that `usage` counts: bytes are counted before a file is begun, and taken off
  after it is gone. A process that dies in between leaves a number that is too high; the next scan mends it.
- Only one process at a time scans and evicts (lock `evicting`); nobody waits for it.
- An unfinished file is locked by its writer, and the file of a data set by those who read the set. Locks are flock's:
  they end with their process, however it ends.

    v1/usage      see `cache_usage`
    v1/evicting   the lock of who scans and evicts
    v1/partial/   unfinished files, named by the bytes that are counted for them
    v1/scopes/    one empty file a data set
    v1/claims/    see `cache_claims`
    v1/00..ff/    entries
"""

import contextlib
import errno
import fcntl
import os
import pathlib
import secrets
import stat
import time
from collections.abc import Iterator
from typing import NamedTuple

from imagetrain_trainer.data import cache_entry, cache_eviction, cache_usage

LAYOUT = "v1"
"""Name of the folder below the user's; another layout of files would get another."""

_FOLDERS = 256  # 100,000 entries: 400 files a folder
_KEPT_SHARE = 0.9  # eviction goes on to this share, so that the cost of looking at all files is spread over many puts
_UNLINKS_A_TIME = 32


class Evicted(NamedTuple):
    """What one eviction removed."""

    entries: int
    size_bytes: int


class CacheFolder:
    """The files of one cache. No state but the paths: usable by any thread, and after a fork."""

    def __init__(self, root: pathlib.Path, max_bytes: int) -> None:
        self.place = root.absolute() / LAYOUT
        self.max_bytes = max_bytes
        self._place = str(self.place)
        self._usage = cache_usage.Usage(f"{self._place}/usage")

    def prepare(self) -> int:
        """Make the folders, collect what killed writers left, and count the files where nobody has since the boot.

        Returns:
            The user id that this file system shows as the owner of what this process writes.

        Raises:
            OSError: the folder cannot be made or written, or belongs to another user.
        """
        self.place.parent.mkdir(parents=True, exist_ok=True)
        for folder in (self.place, self.place / "partial", self.place / "scopes", self.place / "claims"):
            folder.mkdir(mode=0o700, exist_ok=True)
        owner = self._probe()
        status = self.place.lstat()
        if status.st_uid not in (owner, os.geteuid(), 0) or not stat.S_ISDIR(status.st_mode):
            raise PermissionError(errno.EPERM, "the folder belongs to another user", self._place)
        with self._evicting() as is_mine:
            if is_mine:
                self._collect_abandoned()
                with self._usage.locked() as usage:
                    counts = usage.read()
                if counts is None:
                    self._scan()
        return owner

    def _probe(self) -> int:
        """Write and remove a file, as a put would; return its owner."""
        path = self._partial_path(0)
        descriptor = os.open(path, cache_usage.OPEN_FLAGS | os.O_EXCL, 0o600)
        try:
            return os.fstat(descriptor).st_uid
        finally:
            os.close(descriptor)
            _unlink(path)

    def hold_scope(self, scope_name: str) -> int:
        """Say that a data set is being read, until the descriptor that is returned is closed.

        Raises:
            OSError: the disk failed.
        """
        descriptor = os.open(f"{self._place}/scopes/{scope_name}", cache_usage.OPEN_FLAGS, 0o600)
        try:
            cache_usage.lock(descriptor, fcntl.LOCK_SH)  # an eviction that looks who is there has it for an instant
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def path_of(self, name: str) -> str:
        """Return where the entry of this file name lies."""
        return f"{self._place}/{name[-2:]}/{name}"

    def claim_path_of(self, name: str) -> str:
        """Return where the claim of the entry of this file name lies."""
        return f"{self._place}/claims/{name}"

    def used_bytes(self) -> int:
        """Return the bytes that all files take, or may take if a process was killed lately; 0 where nobody counted."""
        return self._usage.peek()

    @contextlib.contextmanager
    def partial_file(self, size_bytes: int) -> Iterator[tuple[int, str] | None]:
        """Count a file's bytes and open it, unfinished, for the block; yield its descriptor and path.

        None where it does not fit now. What is not moved away by the end of the block is removed again.

        Raises:
            OSError: the disk failed.
        """
        path = self._partial_path(size_bytes)
        with self._usage.locked() as usage:
            if usage.add(size_bytes, self.max_bytes):
                # Within the lock: a scan must find the file of every byte that is counted, and its lock.
                descriptor = self._create_partial_file(usage, path, size_bytes)
            else:
                descriptor = None
        if descriptor is None:
            yield None
            return
        try:
            yield descriptor, path
        finally:
            os.close(descriptor)
            if _unlink(path):
                self._release(size_bytes)

    def _create_partial_file(self, usage: cache_usage.LockedUsage, path: str, size_bytes: int) -> int:
        try:
            descriptor = os.open(path, cache_usage.OPEN_FLAGS | os.O_EXCL, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            usage.subtract(size_bytes)
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

    def remove(self, name: str, size_bytes: int) -> None:
        """Delete an entry, if it is still there and can be deleted."""
        if _unlink(self.path_of(name)):
            self._release(cache_entry.footprint(size_bytes))

    def _release(self, size_bytes: int) -> None:
        """Take bytes off the count; where that fails, the count stays too high until the next scan."""
        with contextlib.suppress(OSError), self._usage.locked() as usage:
            usage.subtract(size_bytes)

    def make_room(self, size_bytes: int, scope_name: str) -> Evicted | None:
        """Remove entries, down to 90% of what is allowed if enough of them may go.

        Args:
            size_bytes: of the file that must fit.
            scope_name: of the data set that it belongs to.

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
            chosen = cache_eviction.plan_eviction(
                entries,
                excess_bytes=total - goal,
                over_bytes=total - self.max_bytes,
                own=scope_name,
                live={scope for scope in {entry.scope for entry in entries} if self._is_live(scope)},
                now_ns=time.time_ns(),
            )
            return self._evict(chosen)

    def _is_live(self, scope_name: str) -> bool:
        try:
            descriptor = os.open(f"{self._place}/scopes/{scope_name}", cache_usage.OPEN_FLAGS, 0o600)
        except OSError:
            return False
        try:
            return not cache_usage.try_lock(descriptor)
        finally:
            os.close(descriptor)

    def _evict(self, chosen: list[cache_eviction.Found]) -> Evicted:
        removed, removed_bytes, batch = 0, 0, 0
        for number, entry in enumerate(chosen, 1):
            if _unlink(self.path_of(entry.name)):
                removed, removed_bytes, batch = removed + 1, removed_bytes + entry.size_bytes, batch + entry.size_bytes
            if not number % _UNLINKS_A_TIME:  # others may put as soon as there is room
                self._release(batch)
                batch = 0
        self._release(batch)
        return Evicted(removed, removed_bytes)

    def _scan(self) -> tuple[int, list[cache_eviction.Found]]:
        """Count all files and correct the count. The lock `evicting` is held.

        What others add meanwhile is counted twice where the scan sees it, and never missed.
        """
        with self._usage.locked() as usage:
            before = usage.read() or cache_usage.Counts()
        alive_bytes = self._collect_abandoned()  # before the entries: a file that moves is seen there
        entries = list(self._entries())
        total = alive_bytes + sum(entry.size_bytes for entry in entries)
        with self._usage.locked() as usage:
            after = usage.read() or before
            total += after.added_bytes - before.added_bytes
            usage.write(cache_usage.Counts(total, after.added_bytes))
        return total, entries

    def _entries(self) -> Iterator[cache_eviction.Found]:
        for number in range(_FOLDERS):
            try:
                with os.scandir(f"{self._place}/{number:02x}") as files:
                    for file in files:
                        if cache_entry.is_file_name(file.name):
                            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                                yield _find(file)
            except FileNotFoundError:
                continue

    def _collect_abandoned(self) -> int:
        """Remove the unfinished files and claims of processes that are gone; return the bytes counted for the others.

        The bytes of a removed file stay counted until a scan.
        """
        alive_bytes = 0
        with self._usage.locked():  # no writer is yet to lock its file
            for path in pathlib.Path(self._place, "partial").iterdir():
                if not _remove_abandoned(path):
                    alive_bytes += _partial_size(path.name)
        for path in pathlib.Path(self._place, "claims").iterdir():
            _remove_abandoned(path)
        return alive_bytes

    def _partial_path(self, size_bytes: int) -> str:
        return f"{self._place}/partial/{size_bytes}-{secrets.token_hex(8)}"

    @contextlib.contextmanager
    def _evicting(self) -> Iterator[bool]:
        """Hold the lock of who scans and evicts; False when another has it."""
        descriptor = os.open(f"{self._place}/evicting", cache_usage.OPEN_FLAGS, 0o600)
        try:
            yield cache_usage.try_lock(descriptor)
        finally:
            os.close(descriptor)


def _find(file: "os.DirEntry[str]") -> cache_eviction.Found:
    status = file.stat(follow_symlinks=False)
    size_bytes = cache_entry.footprint(status.st_size)
    return cache_eviction.Found(status.st_mtime_ns, size_bytes, file.name, cache_entry.scope_of(file.name))


def _remove_abandoned(path: pathlib.Path) -> bool:
    """Remove a file that nobody has locked; return whether it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return cache_usage.try_lock(descriptor) and _unlink(str(path))
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
