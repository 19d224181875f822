"""Has the C library keep memory that is freed, for reading takes and frees megabytes of it many times a second.

By default glibc gives the end of its heaps back to the kernel at once, and takes pages anew, zeroed and one fault each,
for the next record: that costs several times as much as copying and checking the record. The heaps that it makes for
threads go back whole when they are empty, whatever is set, so all threads are to use the first one, under one lock.
With two cores that is faster (`make bench-reading`); with many it was not measured.
"""

import ctypes
import functools
import logging

logger = logging.getLogger(__name__)

# mallopt(3); names and numbers of malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_KEPT_BYTES = 1024 * 1024 * 1024
_MAPPED_BYTES = 32 * 1024 * 1024  # the most that glibc takes; blocks have 8 MiB


@functools.cache
def keep_freed_memory() -> bool:
    """Keep up to 1 GiB of freed memory for the next use, once for the process; tell whether that was done.

    Heaps that threads have by now stay. Only glibc has such settings; another C library stays as it is.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        logger.debug("freed memory goes back to the kernel: this C library has no settings for that")
        return False
    settings = {_M_MMAP_THRESHOLD: _MAPPED_BYTES, _M_TRIM_THRESHOLD: _KEPT_BYTES, _M_ARENA_MAX: 1}
    answers = [library.mallopt(name, value) for name, value in settings.items()]
    return set(answers) == {1}
