"""A clock that a test can set: with this folder on PYTHONPATH, `time.time` is off by what IMAGETRAIN_CHAOS_CLOCK says.

The file holds one double, the seconds to add; it is mapped, so all processes see a jump at the same moment. Why not the
kernel's time namespaces: they hold no offset of the wall clock. Why not libfaketime: that of Debian 12 (0.9.10) makes
Python's `time.sleep` fail (EINVAL from clock_nanosleep). TensorFlow and the S3 clients keep the true time here, so what
jumps is what imagetrain itself sees. Monotonic clocks do not jump, as in reality.
"""

import mmap
import os
import struct
import time

_OFFSET = struct.Struct("d")


def _install(path: str) -> None:
    with open(path, "rb") as file:  # noqa: PTH123 - every process of a run starts with this: it imports little
        shared = mmap.mmap(file.fileno(), _OFFSET.size, access=mmap.ACCESS_READ)
    true_time = time.time

    def shifted_time() -> float:
        return true_time() + float(_OFFSET.unpack_from(shared)[0])

    time.time = shifted_time
    time.time_ns = lambda: int(shifted_time() * 1e9)


if os.environ.get("IMAGETRAIN_CHAOS_CLOCK"):
    _install(os.environ["IMAGETRAIN_CHAOS_CLOCK"])
