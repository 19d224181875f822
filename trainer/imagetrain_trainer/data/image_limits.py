"""What packing asks of an image file before it decodes a pixel: the refusals of docs/dataset-format.md that need none.

Files come from anywhere, so nothing here believes a size that a file states, and every look is bounded by the file's
own length.
"""

import struct
import zlib

from PIL import Image

from imagetrain_trainer import errors

MAX_PIXELS = 89_478_485
"""Pillow's own limit against decompression bombs: 256 MB of RGB."""
MAX_FILE_BYTES = 512 * 1024 * 1024
"""Of one image file: twice what the largest image takes without any compression."""
_MAX_JPEG_SCANS = 500  # libjpeg-turbo's advice against files that decode for hours; cameras and editors write 1 to 12
_JPEG_SCAN = b"\xff\xda"

_JPEG = b"\xff\xd8"
_JPEG2000_SIZE = b"\xff\x4f\xff\x51"  # the start of a code stream and its size marker
_JPEG2000_DEPTH_OFFSET = 42  # from there to the first component's depth: ISO/IEC 15444-1, A.5.1
_PNG_SIGNATURE_BYTES = 8
_PNG_CHUNK_BYTES = 12  # length, kind and checksum
_AVIF_CONFIG = b"av1C"
_AVIF_HIGH_DEPTH = 0x40  # in the third byte of the box: AV1-ISOBMFF 2.3.3
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE_MARKERS = frozenset({0x00, 0x01, 0xFF, *range(0xD0, 0xDA)})  # those without a length, and fill bytes
# Baseline, extended and progressive with Huffman codes: what every decoder reads. Lossless and arithmetic ones do not.
_COMMON_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_TIFF_PHOTOMETRIC, _TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH = 262, 322, 323
_WHITE_IS_ZERO = 0
_BYTE = 255
_KNOWN_OTHERS = (
    (b"ftyphei", "a HEIC file: convert it to JPEG or PNG first"),
    (b"ftyphev", "a HEIC file: convert it to JPEG or PNG first"),
    (b"ftypmif1", "a HEIF file: convert it to JPEG or PNG first"),
    (b"<!doctype html", "a web page: the download failed"),
    (b"<html", "a web page: the download failed"),
    (b"<svg", "an SVG drawing: render it to PNG first"),
    (b"%pdf-", "a PDF document: export its pictures first"),
    (b"%!ps", "a PostScript document: export it to PNG first"),
)


def check_length(data: bytes) -> None:
    """Refuse an empty or an enormous file.

    Raises:
        errors.ConfigError: the message is a rule, as of all functions here.
    """
    if not data:
        raise errors.ConfigError("must be an image, got an empty file")
    if len(data) > MAX_FILE_BYTES:
        raise errors.ConfigError(f"must have at most {MAX_FILE_BYTES} bytes, got {len(data)}")


def check_work(image: Image.Image, data: bytes) -> None:
    """Refuse an opened image that would take too much memory or time to decode."""
    if image.width * image.height > MAX_PIXELS:
        raise errors.ConfigError(f"must have at most {MAX_PIXELS} pixels, got {image.width} x {image.height}")
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        tile = int(tags.get(_TIFF_TILE_WIDTH, 0)) * int(tags.get(_TIFF_TILE_LENGTH, 0))
        if tile > MAX_PIXELS:
            raise errors.ConfigError(f"must have tiles of at most {MAX_PIXELS} pixels, got {tile}")
    # A scan's data never holds these two bytes, and each scan walks over all pixels.
    scans = data.count(_JPEG_SCAN) if image.format in ("JPEG", "MPO") else 0
    if scans > _MAX_JPEG_SCANS:
        raise errors.ConfigError(f"must be a JPEG of at most {_MAX_JPEG_SCANS} scans, got {scans}")


def has_deep_channels(image: Image.Image, data: bytes) -> bool:
    """Tell whether an opened image has more than 8 bits in a channel, though Pillow may open it as 8 bits."""
    raw_modes = [str(tile[3]) for tile in getattr(image, "tile", [])]
    if image.mode.startswith(("I", "F")) or any(";16" in mode for mode in raw_modes):
        return True
    if image.format == "PPM":  # the largest value that the header allows goes along with the raw mode
        return any(isinstance(tile[3], tuple) and tile[3][-1] > _BYTE for tile in getattr(image, "tile", []))
    if image.format == "JPEG2000":
        start = data.find(_JPEG2000_SIZE)
        depth = data[start + _JPEG2000_DEPTH_OFFSET : start + _JPEG2000_DEPTH_OFFSET + 1]
        return start >= 0 and depth != b"" and (depth[0] & 0x7F) + 1 > 8
    if image.format == "AVIF":
        start = data.find(_AVIF_CONFIG)
        depth = data[start + 6 : start + 7]
        return start >= 0 and depth != b"" and bool(depth[0] & _AVIF_HIGH_DEPTH)
    return False


def can_be_scaled(image: Image.Image) -> bool:
    """Tell of an opened image of more than 8 bits a channel whether its upper 8 bits are the image in 8 bits.

    They are not where the range is unknown (32 bits, floating point), unused (12 bits in 16) or upside down.
    """
    raw_modes = [str(tile[3]) for tile in getattr(image, "tile", [])]
    if any(";12" in mode for mode in raw_modes):
        return False
    if image.format == "TIFF" and getattr(image, "tag_v2", {}).get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
        return False
    # Pillow scales a PGM of any depth to 16 bits in mode I.
    is_whole = not image.mode.startswith(("I", "F"))
    return is_whole or image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")


def is_sequence(image: Image.Image) -> bool:
    """Tell whether an opened image is a GIF, an animation or has several pages."""
    if image.format == "MPO":  # a phone's JPEG with a depth map or a small copy behind it
        return False
    return image.format == "GIF" or getattr(image, "n_frames", 1) > 1


def is_common_jpeg(data: bytes) -> bool:
    """Tell whether a JPEG is of a kind that every decoder reads."""
    frame = _find_frame(data)
    return frame is not None and frame[0] in _COMMON_FRAMES


def is_whole_png(data: bytes) -> bool:
    """Tell whether a PNG's chunks are whole up to its end mark, also those that Pillow passes over."""
    position = _PNG_SIGNATURE_BYTES
    while position + _PNG_CHUNK_BYTES <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        stop = position + _PNG_CHUNK_BYTES + length
        if stop > len(data) or not kind.isalpha():
            return False
        if zlib.crc32(memoryview(data)[position + 4 : stop - 4]) != struct.unpack_from(">I", data, stop - 4)[0]:
            return False
        if kind == b"IEND":
            return True
        position = stop
    return False


def explain_unknown(data: bytes) -> str:
    """Return the rule that a file breaks which no decoder knows."""
    frame = _find_frame(data) if data.startswith(_JPEG) else None
    if frame is not None and frame[1] != 8:
        return f"must have 8 bits per channel, got a JPEG of {frame[1]}: convert it to 8 bits first"
    start = data[:512].lstrip().lower()
    for mark, what in _KNOWN_OTHERS:
        if start.startswith(mark) or start[4:].startswith(mark):
            return f"must be an image that Pillow can read, got {what}"
    return "must be an image that Pillow can read"


def _find_frame(data: bytes) -> tuple[int, int] | None:
    """Return the marker of a JPEG's frame header and its bits per sample; None when there is none before the scan."""
    position = 2
    while (position := data.find(b"\xff", position)) >= 0 and position + 5 <= len(data):
        marker = data[position + 1]
        if marker in _FRAME_MARKERS:
            return marker, data[position + 4]
        if marker == 0xDA:
            return None
        if marker in _BARE_MARKERS:
            position += 1
        else:
            position += 2 + max(2, struct.unpack_from(">H", data, position + 2)[0])
    return None
