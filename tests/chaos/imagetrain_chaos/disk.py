"""A small disk for a run: a tmpfs that only the run's own mount namespace has, so that nothing else can fill it."""

import pathlib
import shutil
import subprocess
from collections.abc import Sequence

_PIECE_BYTES = 1 << 16
_FILLER = "filler"


class SmallDisk:
    """Lies at `path` for the processes of a run, and is reached from outside through one of them."""

    def __init__(self, path: pathlib.Path, size_bytes: int) -> None:
        self.path = path
        self._size_bytes = size_bytes

    def prefix(self) -> Sequence[str]:
        """Return the words before a command that give it the disk."""
        self.path.mkdir(parents=True, exist_ok=True)
        mount = f'mount -t tmpfs -o size={self._size_bytes} tmpfs {self.path} && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", mount, "sh"]

    def fill(self, pid: int) -> None:
        """Leave no byte free, as seen by process `pid`."""
        with self._filler(pid).open("ab", buffering=0) as file:
            for size in (_PIECE_BYTES, 1):
                try:
                    while file.write(b"\0" * size):
                        pass
                except OSError:
                    continue

    def free(self, pid: int) -> None:
        """Give the space back."""
        self._filler(pid).unlink()

    def _filler(self, pid: int) -> pathlib.Path:
        return pathlib.Path(f"/proc/{pid}/root{self.path}/{_FILLER}")


def missing() -> str:
    """Return why this machine has no such disk for a test, or nothing."""
    if shutil.which("unshare") and not subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        return ""
    return "this machine forbids mounts of one's own (unshare --mount)"
