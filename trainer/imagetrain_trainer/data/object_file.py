"""An object of a store as a file that is read from its start to its end, with requests ahead of the reader."""

import concurrent.futures
import io
import os
from collections.abc import Callable
from typing import Any

WINDOW_BYTES = 8 * 1024 * 1024
"""Of one request: AWS advises 8 to 16 MB."""
_WINDOWS_AHEAD = 2


class ObjectFile(io.RawIOBase):
    """Holds at most three windows. A reader that jumps gets the window that it is in, and nothing ahead of it."""

    def __init__(self, read_range: Callable[[int, int], bytes], size_bytes: int) -> None:
        """Ask for nothing yet.

        Args:
            read_range: returns `length` bytes from `start` on; what it raises, reading raises.
            size_bytes: of the object.
        """
        self._read_range, self._size = read_range, size_bytes
        self._position = 0
        self._windows: dict[int, concurrent.futures.Future[bytes]] = {}
        self._last = -1
        self._pool = concurrent.futures.ThreadPoolExecutor(1 + _WINDOWS_AHEAD, "imagetrain-object")

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move without asking for anything."""
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - typeshed's WriteableBuffer is no type at run time
        """Fill the buffer from one window."""
        view = memoryview(buffer).cast("B")
        if self._position >= self._size or not len(view):
            return 0
        number, start = divmod(self._position, WINDOW_BYTES)
        part = self._get(number)[start : start + len(view)]
        view[: len(part)] = part
        self._position += len(part)
        return len(part)

    def close(self) -> None:
        """Forget what is under way."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        super().close()

    def _get(self, number: int) -> bytes:
        ahead = _WINDOWS_AHEAD if number in (self._last, self._last + 1) else 0
        wanted = range(number, number + 1 + ahead)
        for other in [other for other in self._windows if other not in wanted]:
            self._windows.pop(other).cancel()
        for other in wanted:
            start = other * WINDOW_BYTES
            if other not in self._windows and start < self._size:
                length = min(WINDOW_BYTES, self._size - start)
                self._windows[other] = self._pool.submit(self._read_range, start, length)
        self._last = number
        return self._windows[number].result()
