"""One entry of the disk cache as a file: its name, and how its bytes are checked. No folder is touched here.

Layout, all little endian:

    head      8 bytes  magic "IMGTRCHE"
              u32      version, 1
              u32      bytes of the identity
              u64      bytes of the payload
              ...      the identity: scope and key in UTF-8, with a zero byte between them
    payload   what was put
    foot      u32      CRC32C of all before it
"""

import hashlib
import os
import re
import struct
import weakref

from imagetrain_trainer import errors
from imagetrain_trainer.data import tfrecord

MAGIC = b"IMGTRCHE"
VERSION = 1
LARGEST_PAYLOAD_BYTES = 1 << 30
"""A single read returns at most 2 GiB on Linux; no piece of a data set comes near."""

_HEAD = struct.Struct("<8sIIQ")
_FOOT = struct.Struct("<I")
_RESIDUE = 0x48674BC7
"""The CRC32C of any bytes that end with their own CRC32C (CRC-32/ISCSI in the catalogue of parametrised CRCs): a whole
file is checked in one go, and read in one."""
_SCOPE_DIGITS = 8
_KEY_DIGITS = 24  # 96 bits: no two of 2**32 entries collide but with a chance of 1e-10, and then it is a miss
_NAME = re.compile(rf"[0-9a-f]{{{_SCOPE_DIGITS}}}-[0-9a-f]{{{_KEY_DIGITS}}}")
_BLOCK_BYTES = 4096  # what a file system gives out at a time


def name_scope(scope: str) -> str:
    """Return how the file names of a scope begin."""
    return hashlib.blake2b(scope.encode("utf-8", "surrogatepass"), digest_size=_SCOPE_DIGITS // 2).hexdigest()


def scope_of(file_name: str) -> str:
    """Return `name_scope` of an entry's scope."""
    return file_name[:_SCOPE_DIGITS]


def name_file(scope_name: str, identity: bytes) -> str:
    """Return an entry's file name."""
    return f"{scope_name}-{hashlib.blake2b(identity, digest_size=_KEY_DIGITS // 2).hexdigest()}"


def is_file_name(name: str) -> bool:
    """Say whether a file of this name is an entry."""
    return _NAME.fullmatch(name) is not None


def identify(scope: str, key: str) -> bytes:
    """Return the bytes that tell an entry from all others."""
    return f"{scope}\0{key}".encode("utf-8", "surrogatepass")


def footprint(size_bytes: int) -> int:
    """Return the bytes that a file of this size takes from the disk: whole blocks."""
    return -(-size_bytes // _BLOCK_BYTES) * _BLOCK_BYTES


def size_of(identity: bytes, payload_bytes: int) -> int:
    """Return the size of an entry's file."""
    return _HEAD.size + len(identity) + payload_bytes + _FOOT.size


def encode(identity: bytes, payload: bytes) -> tuple[bytes, bytes, bytes]:
    """Return what an entry's file holds, in three parts, of which the second is `payload` itself."""
    head = _HEAD.pack(MAGIC, VERSION, len(identity), len(payload)) + identity
    return head, payload, _FOOT.pack(tfrecord.crc32c(payload, tfrecord.crc32c(head)))


def read(descriptor: int, size_bytes: int, identity: bytes) -> memoryview:
    """Return the payload of an open entry of `size_bytes`, every byte of it checked. Nothing is copied.

    Args:
        descriptor: of the open file.
        size_bytes: of the file.
        identity: of the entry.

    Raises:
        errors.DataCorruptError: the file is not the entry of this identity, or a byte of it is wrong.
        OSError: the disk failed.
    """
    data = os.pread(descriptor, size_bytes, 0)
    head, stop = _expect_head(size_bytes, identity)
    if not data.startswith(head) or len(data) != size_bytes or tfrecord.crc32c(data) != _RESIDUE:
        raise errors.DataCorruptError("must be the entry of its key and match its CRC32C")
    return memoryview(data)[len(head) : stop]


class OpenEntry:
    """An open entry whose payload is read in parts, when they are needed; each is the caller's to check.

    The kernel is asked to read ahead, so that the bytes wait in the page cache and in no memory of this process. The
    file stays readable when the entry is evicted. It is closed with the last reference.
    """

    def __init__(self, descriptor: int, size_bytes: int, identity: bytes) -> None:
        """Take over an open file of `size_bytes`, and check its size and head.

        Raises:
            errors.DataCorruptError: the file is not the entry of this identity.
            OSError: the disk failed.
        """
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)
        head, stop = _expect_head(size_bytes, identity)
        if os.pread(descriptor, len(head), 0) != head:
            raise errors.DataCorruptError("must be the entry of its key")
        self._start = len(head)
        self.size_bytes = stop - len(head)
        os.posix_fadvise(descriptor, 0, size_bytes, os.POSIX_FADV_WILLNEED)

    def read(self, start: int, length: int) -> memoryview:
        """Return bytes `start` to `start + length` of the payload; fewer where the file ends.

        Raises:
            OSError: the disk failed.
        """
        return memoryview(os.pread(self._descriptor, length, self._start + start))


def _expect_head(size_bytes: int, identity: bytes) -> tuple[bytes, int]:
    """Return how the entry of an identity begins whose file has this size, and where its payload ends."""
    stop = size_bytes - _FOOT.size
    return _HEAD.pack(MAGIC, VERSION, len(identity), max(0, stop - _HEAD.size - len(identity))) + identity, stop
