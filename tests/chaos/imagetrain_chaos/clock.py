"""The wall clock of a run, which a test sets (clock/sitecustomize.py is its other side)."""

import pathlib
import struct

_ENV_FILE = "IMAGETRAIN_CHAOS_CLOCK"
_JUMP_SECONDS = 3600.0
_SITE = pathlib.Path(__file__).parents[1] / "clock"


class Clock:
    """The clock of all processes of a run."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._offset_seconds = 0.0
        path.write_bytes(struct.pack("d", self._offset_seconds))

    def environment(self) -> dict[str, str]:
        """Return the variables that make a process look at it; PYTHONPATH is to be joined with others."""
        return {_ENV_FILE: str(self._path), "PYTHONPATH": str(_SITE)}

    def jump(self) -> None:
        """Go an hour ahead of the true time; the next jump goes to an hour behind it, and so on."""
        self._offset_seconds = -_JUMP_SECONDS if self._offset_seconds > 0 else _JUMP_SECONDS
        with self._path.open("r+b") as file:  # in place: the file is mapped
            file.write(struct.pack("d", self._offset_seconds))
