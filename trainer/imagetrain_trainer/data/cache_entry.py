"""One entry of the disk cache as a file: its name, and how its bytes are checked. No folder is touched here.

Layout, all little endian:

    header    8 bytes  magic "IMGTRCHE"
              u32      CRC32C of everything behind this field, the payload included
              u32      version, 1
              u32      bytes of the identity
              u64      bytes of the payload
    identity  the scope and the key in UTF-8, with a zero byte between them
    payload   what was put
"""

import hashlib
import os
import re
import struct

from imagetrain_trainer import errors
from imagetrain_trainer.data import tfrecord

MAGIC = b"IMGTRCHE"
VERSION = 1
LARGEST_PAYLOAD_BYTES = 1 << 30
"""A single read returns at most 2 GiB on Linux; no piece of a data set comes near."""

_HEAD = struct.Struct("<8sI")
_REST = struct.Struct("<IIQ")
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
    return b"\0".join((scope.encode("utf-8", "surrogatepass"), key.encode("utf-8", "surrogatepass")))


def footprint(size_bytes: int) -> int:
    """Return the bytes that a file of this size takes from the disk: whole blocks."""
    return -(-size_bytes // _BLOCK_BYTES) * _BLOCK_BYTES


def encode_head(identity: bytes, payload: bytes) -> bytes:
    """Return what stands before the payload in its file."""
    rest = _REST.pack(VERSION, len(identity), len(payload)) + identity
    return _HEAD.pack(MAGIC, tfrecord.crc32c(payload, tfrecord.crc32c(rest))) + rest


def head_bytes(identity: bytes) -> int:
    """Return the length of what stands before the payload."""
    return _HEAD.size + _REST.size + len(identity)


def read(descriptor: int, size_bytes: int, identity: bytes) -> bytes:
    """Return the payload of an open entry of `size_bytes` after checking every byte of the file.

    The payload is read into the object that is returned: nothing copies it again.

    Raises:
        errors.DataCorruptError: the file is not the entry of this identity, or a byte of it is wrong.
        OSError: the disk failed.
    """
    start = head_bytes(identity)
    head = os.pread(descriptor, start, 0)
    payload = os.pread(descriptor, max(0, size_bytes - start), start)
    if head != encode_head(identity, payload):
        raise errors.DataCorruptError("must be the entry of its key and match its CRC32C")
    return payload
