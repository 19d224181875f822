"""Keeps the chatter of native libraries off the user's terminal."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def hidden_unless(is_shown: bool) -> Iterator[None]:  # noqa: FBT001 - it reads as a sentence
    """Hide what is written to file descriptor 2 inside the block, where TensorFlow and LiteRT log their start.

    Python's own errors are reported after the block, and so are seen.
    """
    if is_shown:
        yield
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as sink:
        kept = os.dup(2)
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
