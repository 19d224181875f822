"""Image files that Pillow does not write: by hand, chunk by chunk."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

PNG_GRAY, PNG_COLOR, PNG_COLOR_ALPHA = 0, 2, 6


def encode(image: "Image.Image | npt.NDArray[Any]", kind: str, **options: Any) -> bytes:
    """Return the file that Pillow writes."""
    out = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, kind, **options)
    return out.getvalue()


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, depth: int, kind: int, rows: bytes, **chunks: bytes) -> bytes:
    """Return a PNG of any depth and claimed size; `rows` each begin with a filter byte."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    others = b"".join(_chunk(name.encode(), body) for name, body in chunks.items())
    data = _chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + others + data + _chunk(b"IEND", b"")


def with_chunk(data: bytes, name: bytes, body: bytes) -> bytes:
    """Return a PNG with one more chunk behind its header."""
    return data[:33] + _chunk(name, body) + data[33:]


def _segments(data: bytes) -> list[tuple[int, int, int]]:
    """Return (marker, start, stop) of a JPEG's segments before its first scan."""
    found, position = [], 2
    while data[position + 1] != 0xDA:
        stop = position + 2 + struct.unpack_from(">H", data, position + 2)[0]
        found.append((data[position + 1], position, stop))
        position = stop
    return found


def _find_frame(data: bytes) -> int:
    return next(start for marker, start, _ in _segments(data) if marker in (0xC0, 0xC1, 0xC2))


def with_segment(data: bytes, marker: int, body: bytes) -> bytes:
    """Return a JPEG with one more segment at its start."""
    return data[:2] + bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body + data[2:]


def without_segments(data: bytes, marker: int) -> bytes:
    """Return a JPEG without the segments of one kind."""
    for found, start, stop in reversed(_segments(data)):
        if found == marker:
            data = data[:start] + data[stop:]
    return data


def with_precision(data: bytes, bits: int) -> bytes:
    """Return a JPEG whose header states another number of bits per sample."""
    place = _find_frame(data) + 4
    return data[:place] + bytes((bits,)) + data[place + 1 :]


def with_size(data: bytes, height: int, width: int) -> bytes:
    """Return a JPEG whose header states another size."""
    place = _find_frame(data) + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


def lossless_jpeg(width: int, height: int) -> bytes:
    """Return a lossless JPEG (ITU-T T.81, annex H) of middle gray: all differences are zero, one bit each."""
    frame = struct.pack(">BHHBBBB", 8, height, width, 1, 1, 0x11, 0)
    table = b"\0" + bytes((1, *[0] * 15)) + b"\0"
    scan = bytes((1, 1, 0, 1, 0, 0))
    out = b"\xff\xd8"
    for marker, body in ((0xC3, frame), (0xC4, table), (0xDA, scan)):
        out += bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body
    return out + bytes(width * height // 8) + b"\xff\xd9"


def tiff(pixels: npt.NDArray[Any], photometric: int, tile: tuple[int, int] | None = None) -> bytes:
    """Return a gray TIFF in the byte order of `pixels`, uncompressed; `tile` is a claimed size of tiles."""
    order = ">" if pixels.dtype.byteorder == ">" else "<"
    height, width = pixels.shape
    tags = {256: width, 257: height, 258: pixels.dtype.itemsize * 8, 259: 1, 262: photometric, 277: 1}
    size = pixels.nbytes
    if tile is None:
        tags |= {273: 0, 278: height, 279: size}
    else:
        tags |= {322: tile[0], 323: tile[1], 324: 0, 325: size}
    start = 8 + 2 + 12 * len(tags) + 4
    tags[273 if tile is None else 324] = start
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    head = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(f"{order}IH", 8, len(tags))
    return head + entries + bytes(4) + np.ascontiguousarray(pixels).tobytes()


def vp8x(width: int, height: int) -> bytes:
    """Return the start of a WebP file that claims this size."""
    body = bytes((0x10, 0, 0, 0)) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunk = b"VP8X" + struct.pack("<I", len(body)) + body + b"VP8L" + struct.pack("<I", 8) + bytes(8)
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk
