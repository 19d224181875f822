"""The training process's state in memory that the supervisor shares: one writer, any number of readers, no locks.

A block is a small memory-mapped file with two kinds of content:

- Marks, one aligned 8-byte word each, that change often and on their own: the newest beat, the step that was entered,
  what is waited for. Writing one is a single store, so any thread may write its own at any time.
- The report, a JSON document. There are two places for it; the word `sequence` counts the reports and says which place
  holds the newest. A writer fills the other place and counts then, so a process that is stopped or killed in the middle
  of a write leaves the report before it readable. A checksum tells a reader when it was overtaken; it reads again.
"""

import dataclasses
import json
import mmap
import pathlib
import struct
import time
import zlib

from imagetrain_api import progress, schema

BLOCK_BYTES = 65536  # a report is about 1 KiB
_SEQUENCE, _ENTERED_STEP, _WAIT, _BEAT, _ENTERED_LAST = range(5)  # words of the header
_HEADER_BYTES = 64
_PLACE_BYTES = (BLOCK_BYTES - _HEADER_BYTES) // 2
_PLACE = struct.Struct("=QII")  # sequence number, length and CRC-32 of the JSON text
_READ_ATTEMPTS = 1000
_RETRY_SECONDS = 0.0005


class ProgressBlock:
    """A view of one block; all but `read` and `close` is for the training process alone."""

    def __init__(self, path: pathlib.Path, *, create: bool = False) -> None:
        if create:
            path.unlink(missing_ok=True)  # cut short, the file would end whoever still looks at it by SIGBUS
            path.write_bytes(bytes(BLOCK_BYTES))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), BLOCK_BYTES)
        header = memoryview(self._memory)[:_HEADER_BYTES]
        self._numbers, self._times = header.cast("Q"), header.cast("d")

    def write(self, report: progress.Progress) -> None:
        """Publish a report, for one thread at a time; its fields that are marks here are passed over.

        Raises:
            ValueError: it is too long.
        """
        text = json.dumps(schema.encode(report), separators=(",", ":")).encode()
        if len(text) > _PLACE_BYTES - _PLACE.size:
            raise ValueError(f"report must be at most {_PLACE_BYTES - _PLACE.size} bytes, got {len(text)}.")
        sequence = self._numbers[_SEQUENCE] + 1
        start = _place(sequence)
        self._memory[start : start + _PLACE.size + len(text)] = (
            _PLACE.pack(sequence, len(text), zlib.crc32(text)) + text
        )
        self._numbers[_SEQUENCE] = sequence

    def mark_beat(self, at: float) -> None:
        """Say that the process was alive at a Unix time."""
        self._times[_BEAT] = at

    def mark_step(self, step: int, last: int | None = None) -> None:
        """Say which step is about to run, and up to which one it runs together with others."""
        self._numbers[_ENTERED_LAST] = step if last is None else last
        self._numbers[_ENTERED_STEP] = step

    def mark_wait(self, wait: str) -> None:
        """Say what the process waits for: one of `progress.WAITS`.

        Raises:
            ValueError: it is none of these.
        """
        if wait not in progress.WAITS:
            raise ValueError(f"wait must be one of {progress.WAITS}, got {wait!r}.")
        self._numbers[_WAIT] = progress.WAITS.index(wait)

    def read(self) -> progress.Progress:
        """Return the newest report with the newest marks, or a default one when nothing was written yet.

        Raises:
            TimeoutError: the block is damaged.
        """
        for _ in range(_READ_ATTEMPTS):
            text = self._read_text()
            if text is not None:
                report = schema.decode(progress.Progress, json.loads(text)) if text else progress.Progress()
                return dataclasses.replace(
                    report,
                    entered_step=self._numbers[_ENTERED_STEP],
                    entered_last_step=self._numbers[_ENTERED_LAST],
                    waiting_for=progress.WAITS[self._numbers[_WAIT]],
                    beat_at=self._times[_BEAT],
                )
            time.sleep(_RETRY_SECONDS)
        raise TimeoutError("progress block must hold a whole report, got a damaged one.")

    def _read_text(self) -> bytes | None:
        """Return the newest report's JSON, nothing where there is none yet, or None when the writer was faster."""
        expected = self._numbers[_SEQUENCE]
        if not expected:
            return b""
        start = _place(expected)
        sequence, length, checksum = _PLACE.unpack_from(self._memory, start)
        text = self._memory[start + _PLACE.size : start + _PLACE.size + length]
        return text if sequence == expected and zlib.crc32(text) == checksum else None

    def close(self) -> None:
        """Release the mapping."""
        self._numbers.release()
        self._times.release()
        self._memory.close()


def _place(sequence: int) -> int:
    return _HEADER_BYTES + sequence % 2 * _PLACE_BYTES
