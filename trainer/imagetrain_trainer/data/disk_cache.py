"""Pieces of a data set kept on a local disk, shared by the processes of a node and by the runs on it.

A cache may lose anything at any time and is never wrong: every byte of an entry is checked when it is read, and trouble
with the disk makes it a smaller cache, not a failed run. `cache_folder` has the files, `cache_entry` their bytes.
"""

import contextlib
import dataclasses
import errno
import logging
import os
import pathlib
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import TypeVar

from imagetrain_trainer import errors
from imagetrain_trainer.data import cache_claims, cache_entry, cache_folder

logger = logging.getLogger(__name__)

_Found = TypeVar("_Found")

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_PASSING = frozenset({errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR})
_FULL_SECONDS = 30.0  # after an eviction that found nothing to remove: looking at all files at each put would be slow


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CacheCounters:
    """What one `DiskCache` did so far.

    Attributes:
        hits: gets that found a right entry.
        misses: gets that did not, those of damaged entries included.
        damaged: entries that were wrong and therefore deleted.
        puts: entries written.
        refused: puts that stored nothing: too large, no room at the moment, or the disk in trouble.
        evictions: entries removed to make room.
        hit_bytes: payload bytes of the hits.
        put_bytes: payload bytes of the puts.
        evicted_bytes: bytes on disk that evictions set free.
    """

    hits: int = 0
    misses: int = 0
    damaged: int = 0
    puts: int = 0
    refused: int = 0
    evictions: int = 0
    hit_bytes: int = 0
    put_bytes: int = 0
    evicted_bytes: int = 0


class DiskCache:
    """Bytes by key in a folder of bounded size; what goes when it is full is in `cache_eviction`.

    Thread-safe, usable after a fork, and safe against processes that are killed. Nothing needs closing: the scope
    counts as being read until the last object of it is gone.
    """

    def __init__(self, folder: str | pathlib.Path, max_bytes: int, scope: str, *, touch_seconds: float = 60) -> None:
        """Open the cache, making the folder where there is none. Trouble with the disk is logged and not raised.

        Args:
            folder: on a local disk; may be shared by processes and by data sets, and keeps what it has between runs.
            max_bytes: most bytes that the files of all data sets take. Processes that share a folder use one value.
            scope: what the keys belong to, such as the digest of a data set.
            touch_seconds: how exactly the last use of an entry is known. It is kept as the file's modification time,
                which works on disks that keep no access times, and is written at most this often.

        Raises:
            ValueError: `max_bytes` is negative.
        """
        if max_bytes < 0:
            raise ValueError(f"max_bytes must be at least 0, got {max_bytes!r}.")
        self._folder = cache_folder.CacheFolder(pathlib.Path(folder), max_bytes)
        self._scope = scope
        self._scope_name = cache_entry.name_scope(scope)
        self._touch_seconds = touch_seconds
        self._lock = threading.Lock()
        self._counts = {field.name: 0 for field in dataclasses.fields(CacheCounters)}
        self._owners = {os.geteuid(), 0}
        self._is_writable = True
        self._has_warned = False
        self._full_until = 0.0
        self._prepare()

    @property
    def counters(self) -> CacheCounters:
        """Return a snapshot of what this object did."""
        with self._lock:
            return CacheCounters(**self._counts)

    @property
    def used_bytes(self) -> int:
        """Bytes that all entries of all processes take on the disk."""
        return self._folder.used_bytes()

    @property
    def is_writable(self) -> bool:
        """Whether puts still store anything; False for good after trouble with the disk."""
        return self._is_writable

    def get(self, key: str) -> memoryview | None:
        """Return what was put under a key of this scope, or None when it is not here.

        Every byte is checked. An entry that is damaged, or that another user's process wrote, is not here; a damaged
        one is deleted.
        """

        def read(descriptor: int, size_bytes: int, identity: bytes) -> memoryview:
            try:
                return cache_entry.read(descriptor, size_bytes, identity)
            finally:
                os.close(descriptor)

        payload = self._look_up(key, read)
        self._count_hit(None if payload is None else len(payload))
        return payload

    def open(self, key: str) -> cache_entry.OpenEntry | None:
        """Open what was put under a key of this scope, as `get`, for a payload that has checks of its own.

        Its head is checked here, and what is read of it later is the caller's to check, who calls `discard` when it is
        wrong.
        """
        entry = self._look_up(key, cache_entry.OpenEntry)
        self._count_hit(None if entry is None else entry.size_bytes)
        return entry

    def _look_up(self, key: str, read: Callable[[int, int, bytes], _Found]) -> _Found | None:
        """Return what `read` makes of an entry's descriptor, which it takes over, its size and identity."""
        identity = cache_entry.identify(self._scope, key)
        name = cache_entry.name_file(self._scope_name, identity)
        try:
            descriptor = os.open(self._folder.path_of(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as e:
            if e.errno != errno.ENOENT:
                self._warn(e, "an entry cannot be read")
            return None
        status = os.fstat(descriptor)
        if status.st_uid not in self._owners:
            os.close(descriptor)
            return None
        if abs(time.time() - status.st_mtime) >= self._touch_seconds:
            self._touch(descriptor)
        try:
            return read(descriptor, status.st_size, identity)
        except (errors.DataCorruptError, OSError):
            self._folder.remove(name, status.st_size)
            self._count(damaged=1)
            return None

    def _count_hit(self, size_bytes: int | None) -> None:
        if size_bytes is None:
            self._count(misses=1)
        else:
            with self._lock:  # as `_count` does, a microsecond sooner
                self._counts["hits"] += 1
                self._counts["hit_bytes"] += size_bytes

    def _touch(self, descriptor: int) -> None:
        try:
            os.utime(descriptor)
        except OSError as e:  # then it is evicted as one that is not used
            if e.errno not in (errno.EROFS, errno.EPERM, errno.EACCES):
                self._warn(e, "an entry's time cannot be set")

    def discard(self, key: str) -> None:
        """Delete what was put under a key of this scope, for its content turned out to be wrong."""
        name = self._name(key)
        with contextlib.suppress(OSError):  # it is not here, or cannot be read either
            self._folder.remove(name, pathlib.Path(self._folder.path_of(name)).stat().st_size)

    def put(self, key: str, data: bytes) -> bool:
        """Keep bytes under a key of this scope; return whether they are stored now.

        Nothing is flushed to the disk: a power failure may tear an entry, which its CRC then shows.
        """
        is_stored = self._is_writable and self._try_put(key, bytes(data))
        self._count(**({"puts": 1, "put_bytes": len(data)} if is_stored else {"refused": 1}))
        return is_stored

    def claim(self, key: str) -> cache_claims.Claim | None:
        """Ask to be the one who fetches a piece that is not here, among the threads and processes of this node.

        Returns:
            A claim: fetch, put, then release it (or leave its `with` block). None: another is at it; `wait` for it.
            Who could put nothing, for the disk is in trouble or the cache is full, gets a claim as well.
        """
        if not self._is_writable or time.monotonic() < self._full_until:
            return cache_claims.Claim()
        try:
            return cache_claims.claim(self._folder.claim_path_of(self._name(key)))
        except FileNotFoundError:  # somebody emptied the folder
            self._prepare()
            return cache_claims.Claim()
        except OSError as e:
            self._stop_writing(e)
            return cache_claims.Claim()

    def holds(self, key: str) -> bool:
        """Say whether something is under a key of this scope, without looking at it."""
        return os.access(self._folder.path_of(self._name(key)), os.F_OK)

    def wait(self, key: str, timeout_seconds: float) -> memoryview | None:
        """Get what another is fetching, once it is here; None when it did not come: then fetch it without a claim.

        Args:
            key: for which `claim` returned None.
            timeout_seconds: most time to wait. A process that ends, however it ends, is not waited for.
        """
        cache_claims.wait(self._folder.claim_path_of(self._name(key)), timeout_seconds)
        return self.get(key)

    def _name(self, key: str) -> str:
        return cache_entry.name_file(self._scope_name, cache_entry.identify(self._scope, key))

    def _try_put(self, key: str, data: bytes) -> bool:
        identity = cache_entry.identify(self._scope, key)
        size_bytes = cache_entry.footprint(cache_entry.size_of(identity, len(data)))
        if size_bytes > self._folder.max_bytes or len(data) > cache_entry.LARGEST_PAYLOAD_BYTES:
            return False
        try:
            return self._store(identity, data, size_bytes) or (
                self._make_room(size_bytes) and self._store(identity, data, size_bytes)
            )
        except FileNotFoundError:  # somebody emptied the folder
            self._prepare()
            return False
        except OSError as e:
            self._stop_writing(e)
            return False

    def _store(self, identity: bytes, data: bytes, size_bytes: int) -> bool:
        name = cache_entry.name_file(self._scope_name, identity)
        if os.access(self._folder.path_of(name), os.F_OK):
            return True  # another process was faster
        with self._folder.partial_file(size_bytes) as file:
            if file is None:
                return False
            descriptor, path = file
            _write_all(descriptor, cache_entry.encode(identity, data))
            self._folder.publish(path, name)
        return True

    def _make_room(self, size_bytes: int) -> bool:
        if time.monotonic() < self._full_until:
            return False
        evicted = self._folder.make_room(size_bytes, self._scope_name)
        if evicted is None:
            return False
        if not evicted.entries:
            self._full_until = time.monotonic() + _FULL_SECONDS
        self._count(evictions=evicted.entries, evicted_bytes=evicted.size_bytes)
        return True

    def _prepare(self) -> None:
        try:
            self._owners = {os.geteuid(), 0, self._folder.prepare()}
            weakref.finalize(self, os.close, self._folder.hold_scope(self._scope_name))
            if self._folder.used_bytes() > self._folder.max_bytes:  # a former run was allowed more
                self._make_room(0)
        except OSError as e:
            self._stop_writing(e)

    def _stop_writing(self, e: OSError) -> None:
        if e.errno in _PASSING:
            return
        self._is_writable = False
        self._warn(e, "no space is left" if e.errno in _FULL else "it cannot be written")

    def _warn(self, e: OSError, what: str) -> None:
        """Log the first trouble; what follows from it would fill the log at every piece."""
        with self._lock:
            is_first, self._has_warned = not self._has_warned, True
        if is_first:
            logger.warning(
                "Disk cache %s: %s (%s). Training goes on and reads from storage what the cache lacks. Check the "
                "disk's space, the folder's owner and mode.",
                self._folder.place,
                what,
                e.strerror or type(e).__name__,
            )

    def _count(self, **changes: int) -> None:
        with self._lock:
            for name, change in changes.items():
                self._counts[name] += change


def _write_all(descriptor: int, parts: Sequence[bytes]) -> None:
    """Write all parts, in one system call unless it stops short (as it does when the disk fills up)."""
    done = os.writev(descriptor, parts)
    if done < sum(map(len, parts)):
        rest = memoryview(b"".join(parts))[done:]
        while rest:
            rest = rest[os.write(descriptor, rest) :]
