"""Processes that use a disk cache and may be killed: `python cache_processes.py WHAT FOLDER MAX_BYTES ...`.

What is put under a key follows from the key, so that any process can tell whether what it gets is right.
"""

import contextlib
import hashlib
import os
import pathlib
import random
import resource
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

from imagetrain_trainer.data import cache_entry, disk_cache

SCOPES = ("sha256:one", "sha256:two")
LARGEST = 30_000


def content_of(scope: str, key: str) -> bytes:
    """Return what is put under a key."""
    seed = int.from_bytes(hashlib.sha256(f"{scope} {key}".encode()).digest()[:8], "big")
    randomness = random.Random(seed)
    return randomness.randbytes(randomness.randrange(LARGEST))


def entry_sizes(folder: pathlib.Path) -> tuple[int, int]:
    """Return the bytes that entries and unfinished files take on the disk."""
    totals = {True: 0, False: 0}
    for path in folder.rglob("*"):
        is_entry = cache_entry.is_file_name(path.name)
        if is_entry or path.parent.name == "partial":
            with contextlib.suppress(FileNotFoundError):
                totals[is_entry] += cache_entry.footprint(path.stat().st_size)
    return totals[True], totals[False]


def use(folder: str, max_bytes: int, scope: str, randomness: random.Random, keys: int) -> Iterator[None]:
    """Get random keys for ever, and put what is missing."""
    cache = disk_cache.DiskCache(folder, max_bytes, scope, touch_seconds=0)
    while True:
        key = f"{randomness.randrange(keys)}"
        found = cache.get(key)
        if found is None:
            cache.put(key, content_of(scope, key))
        elif found != content_of(scope, key):
            raise AssertionError(f"wrong bytes under {key}")
        yield


def check(folder: str, max_bytes: int, keys: int) -> None:
    """Check that all that is left is right, is counted, and nothing unfinished stays."""
    caches = [disk_cache.DiskCache(folder, max_bytes, scope) for scope in SCOPES]
    for cache, scope in zip(caches, SCOPES, strict=True):
        for key in map(str, range(keys)):
            if cache.get(key) not in (None, content_of(scope, key)):
                raise AssertionError(f"wrong bytes under {key}")
        if cache.counters.damaged:
            raise AssertionError("a torn entry was published")
    entries, partial = entry_sizes(pathlib.Path(folder))
    if partial or list((pathlib.Path(folder) / "v1" / "partial").iterdir()):
        raise AssertionError("unfinished files stayed")
    if not entries <= caches[0].used_bytes or entries > max_bytes:
        raise AssertionError(f"{entries} bytes are there, {caches[0].used_bytes} counted, {max_bytes} allowed")


def in_child(work: Callable[[], object], kill_after_seconds: float | None = None) -> int:
    """Run work in a fork and return its wait status; SIGKILL it after a while, if asked."""
    pid = os.fork()
    if not pid:
        try:
            work()
            os._exit(0)
        except BaseException as e:  # noqa: BLE001 - reported by the status
            sys.stderr.write(f"{type(e).__name__}: {e}\n")
            sys.stderr.flush()
            os._exit(1)
    if kill_after_seconds is not None:
        time.sleep(kill_after_seconds)
        os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def kill_at_random(folder: str, max_bytes: int, kills: int) -> None:
    """Kill processes of several writing threads at random moments, and check after each."""
    keys = max_bytes // LARGEST * 4
    randomness = random.Random(1)

    def write() -> None:
        def work(scope: str, seed: int) -> None:
            for _ in use(folder, max_bytes, scope, random.Random(seed), keys):
                pass

        threads = [
            threading.Thread(target=work, args=(SCOPES[n % 2], randomness.getrandbits(32)), daemon=True)
            for n in range(3)
        ]
        for thread in threads:
            thread.start()
        threads[0].join()

    for _ in range(kills):
        status = in_child(write, randomness.uniform(0.001, 0.06))
        if status != signal.SIGKILL:
            raise AssertionError(f"the writer ended by itself: {status}")
        if in_child(lambda: check(folder, max_bytes, keys)):
            raise AssertionError("the check failed")


def fill(folder: str, max_bytes: int) -> None:
    """Fill the cache with a set that nobody reads after this."""
    cache, key = disk_cache.DiskCache(folder, max_bytes, SCOPES[1]), 0
    while not cache.counters.refused:
        cache.put(f"{key}", content_of(SCOPES[1], f"{key}"))
        key += 1


def kill_at_line(number: int) -> Callable[[types.FrameType, str, object], Any]:
    """Return a trace function that kills this process when the cache's code comes to its next line after `number`."""
    seen: set[tuple[str, int]] = set()

    def trace(frame: types.FrameType, event: str, _: object) -> Any:
        path = pathlib.Path(frame.f_code.co_filename)
        if path.parent.name != "data":
            return None
        if event == "line":
            seen.add((path.name, frame.f_lineno))
        if len(seen) > number:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


def kill_at_every_line(folder: str, max_bytes: int) -> int:
    """Kill a process at each line of the cache's code that it comes to, and check after each; return the lines."""
    keys = max_bytes // LARGEST * 4
    for number in range(1000):
        key = f"{number % keys}"
        fill(folder, max_bytes)

        def write(number: int = number, key: str = key) -> None:
            sys.settrace(kill_at_line(number))
            cache = disk_cache.DiskCache(folder, max_bytes, SCOPES[0])
            with cache.claim(key) or contextlib.nullcontext():
                cache.put(key, content_of(SCOPES[0], key))
            cache.get(key)
            cache.discard(key)

        status = in_child(write)
        if in_child(lambda: check(folder, max_bytes, keys)):
            raise AssertionError(f"the check failed after {number} lines")
        if not status:
            return number
        if status != signal.SIGKILL:
            raise AssertionError(f"the writer ended by itself: {status}")
    raise AssertionError("the writer never got through")


def use_for(folder: str, max_bytes: int, seed: int, seconds: float) -> None:
    """Use the cache for a while."""
    deadline = time.monotonic() + seconds
    for _ in use(folder, max_bytes, SCOPES[seed % 2], random.Random(seed), keys=200):
        if time.monotonic() > deadline:
            return


def put_large_and_small(folder: str, max_bytes: int) -> None:
    """Put what exceeds the largest file that this process may write, and what does not."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    cache = disk_cache.DiskCache(folder, max_bytes, SCOPES[0])
    say([cache.put("large", bytes(20_000)), cache.put("small", b"x"), cache.get("large"), cache.is_writable])


def use_as_nobody(folder: str, max_bytes: int) -> None:
    """Get what is there and put something, without the rights of root."""
    os.setresuid(65534, 65534, 65534)
    cache = disk_cache.DiskCache(folder, max_bytes, SCOPES[0])
    say([cache.get("a"), cache.put("b", b"x"), cache.get("b"), cache.is_writable])


def claim_for_ever(folder: str, max_bytes: int) -> None:
    """Take a claim and never release it."""
    held = disk_cache.DiskCache(folder, max_bytes, SCOPES[0]).claim("a")
    say(held is not None)
    signal.pause()


def say(result: object) -> None:
    """Tell the test."""
    sys.stdout.write(f"{result}\n")
    sys.stdout.flush()


def main() -> None:
    """Do what the arguments say."""
    what, folder, max_bytes = sys.argv[1], sys.argv[2], int(sys.argv[3])
    works: dict[str, Callable[[], object]] = {
        "kill-at-random": lambda: kill_at_random(folder, max_bytes, kills=int(sys.argv[4])),
        "kill-at-every-line": lambda: say(kill_at_every_line(folder, max_bytes)),
        "use": lambda: use_for(folder, max_bytes, int(sys.argv[4]), float(sys.argv[5])),
        "limited": lambda: put_large_and_small(folder, max_bytes),
        "as-nobody": lambda: use_as_nobody(folder, max_bytes),
        "claim": lambda: claim_for_ever(folder, max_bytes),
    }
    works[what]()


if __name__ == "__main__":
    main()
