"""A control group that a run lives in, so that its memory can run out and the machine's does not. Versions 1 and 2."""

import collections.abc
import contextlib
import os
import pathlib
import secrets

from imagetrain_cluster import wait

_ROOT = pathlib.Path("/sys/fs/cgroup")
_REMOVE_TIMEOUT_SECONDS = 20.0
ROOM_BYTES = 192 << 20
"""How much more than it has a group may take once it is tight."""


class MemoryGroup:
    """A group whose limit can be drawn tight around what it uses."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        is_unified = (folder / "memory.max").exists()
        self._limit, self._usage = (
            ("memory.max", "memory.current") if is_unified else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        )
        self._unlimited = "max" if is_unified else "-1"

    def prefix(self) -> list[str]:
        """Return the words before a command that start it in the group."""
        return ["/bin/sh", "-c", f'echo $$ >{self._folder}/cgroup.procs && exec "$@"', "sh"]

    def tighten(self) -> None:
        """Leave ROOM_BYTES beyond what is used now."""
        used = int((self._folder / self._usage).read_text(encoding="ascii"))
        (self._folder / self._limit).write_text(str(used + ROOM_BYTES), encoding="ascii")

    def loosen(self) -> None:
        """Set no limit."""
        (self._folder / self._limit).write_text(self._unlimited, encoding="ascii")


def missing() -> str:
    """Return why this machine has no control group for a test, or nothing."""
    with contextlib.suppress(OSError), memory_group():
        return ""
    return f"{_base()} takes no control group of a test's own"


@contextlib.contextmanager
def memory_group() -> collections.abc.Iterator[MemoryGroup]:
    """Make a group, and remove it when its processes have ended.

    Raises:
        OSError: this machine has none.
    """
    folder = _base() / f"imagetrain-chaos-{os.getpid()}-{secrets.token_hex(4)}"
    folder.mkdir()
    try:
        yield MemoryGroup(folder)
    finally:
        wait.until(lambda: _removed(folder), timeout_seconds=_REMOVE_TIMEOUT_SECONDS, what=f"the removal of {folder}")


def _base() -> pathlib.Path:
    return _ROOT if (_ROOT / "cgroup.controllers").exists() else _ROOT / "memory"


def _removed(folder: pathlib.Path) -> bool:
    """Remove a group; False while its processes end."""
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()
