"""The training process's state in memory that the supervisor shares: one writer, any number of readers, no locks.

A block is a small memory-mapped file: a sequence number, a length, and a JSON document. The writer makes the number
odd, writes, and makes it even again; a reader that saw an odd or a changed number reads again (a seqlock). So a reader
never waits for a training process that hangs, and never sees half a report.
"""

import json
import mmap
import pathlib
import struct
import time

from imagetrain_api import progress, schema

BLOCK_BYTES = 65536  # a report is about 1 KiB
_HEADER = struct.Struct("<QQ")  # sequence number, length of the JSON text in bytes
_READ_ATTEMPTS = 1000
_RETRY_SECONDS = 0.0005


class ProgressBlock:
    """A view of one block; `write` is for the training process alone."""

    def __init__(self, path: pathlib.Path, *, create: bool = False) -> None:
        if create:
            path.write_bytes(bytes(BLOCK_BYTES))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), BLOCK_BYTES)

    def write(self, report: progress.Progress) -> None:
        """Publish a report."""
        text = json.dumps(schema.encode(report), separators=(",", ":")).encode()
        if len(text) > BLOCK_BYTES - _HEADER.size:
            raise ValueError(f"report must be at most {BLOCK_BYTES - _HEADER.size} bytes, got {len(text)}.")
        sequence, _ = _HEADER.unpack_from(self._memory)
        _HEADER.pack_into(self._memory, 0, sequence + 1, len(text))
        self._memory[_HEADER.size : _HEADER.size + len(text)] = text
        _HEADER.pack_into(self._memory, 0, sequence + 2, len(text))

    def read(self) -> progress.Progress:
        """Return the newest report, or a default one when nothing was written yet.

        Raises:
            TimeoutError: a writer died in the middle of a write.
        """
        for _ in range(_READ_ATTEMPTS):
            sequence, length = _HEADER.unpack_from(self._memory)
            text = self._memory[_HEADER.size : _HEADER.size + length]
            if sequence % 2 == 0 and _HEADER.unpack_from(self._memory)[0] == sequence:
                return schema.decode(progress.Progress, json.loads(text)) if length else progress.Progress()
            time.sleep(_RETRY_SECONDS)
        raise TimeoutError("progress block must be whole, got a write that never ended.")

    def close(self) -> None:
        """Release the mapping."""
        self._memory.close()
