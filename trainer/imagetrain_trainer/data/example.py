"""The tf.train.Example messages of the data set, written and read without TensorFlow or protobuf.

Wire format: https://protobuf.dev/programming-guides/encoding/ with tensorflow/core/example/{example,feature}.proto:
Example.features = 1; Features.feature = 1, a map<string, Feature>; Feature is one of bytes_list = 1, float_list = 2 and
int64_list = 3; each list's values are field 1, numbers packed. Map entries are written in the order of their names, so
equal records have equal bytes; they are read in any order, packed or not, and unknown fields are skipped.
"""

import functools
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from imagetrain_trainer import errors

FEATURE_ENCODED = "image/encoded"
FEATURE_FORMAT = "image/format"
FEATURE_HEIGHT = "image/height"
FEATURE_WIDTH = "image/width"
FEATURE_CHANNELS = "image/channels"
FEATURE_LABEL = "image/class/label"
FEATURE_KEY = "image/key"

FeatureValue = list[bytes] | list[int] | list[float]

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3
_TAG_LENGTH_1 = 0x0A  # field 1, length-delimited
_TAG_LENGTH_2 = 0x12
_VARINT_BITS = 70  # ten bytes of seven bits
_SEVEN_BITS = 0x7F


class Record(NamedTuple):
    """One image of the data set.

    Attributes:
        payload: the file's bytes (png, jpeg) or height * width * channels bytes in row-major order (raw).
        label: index into the data set's class names.
        format: "raw", "png" or "jpeg".
        height: pixels.
        width: pixels.
        channels: 1 or 3.
        key: the source's name, such as `cats/001.jpg`.
    """

    payload: bytes
    label: int
    format: str
    height: int
    width: int
    channels: int
    key: str


def encode_record(record: Record) -> bytes:
    """Serialize a record as a tf.train.Example."""
    features: dict[str, bytes | int] = {
        FEATURE_CHANNELS: record.channels,
        FEATURE_LABEL: record.label,
        FEATURE_ENCODED: record.payload,
        FEATURE_FORMAT: record.format.encode(),
        FEATURE_HEIGHT: record.height,
        FEATURE_KEY: record.key.encode("utf-8", "surrogateescape"),
        FEATURE_WIDTH: record.width,
    }
    entries = b"".join(_field(_TAG_LENGTH_1, _encode_entry(name, features[name])) for name in sorted(features))
    return _field(_TAG_LENGTH_1, entries)


def _encode_entry(name: str, value: bytes | int) -> bytes:
    if isinstance(value, bytes):
        feature = _field(_BYTES_LIST << 3 | _LENGTH, _field(_TAG_LENGTH_1, value))
    else:
        feature = _field(_INT64_LIST << 3 | _LENGTH, _field(_TAG_LENGTH_1, _varint(value)))
    return _field(_TAG_LENGTH_1, name.encode()) + _field(_TAG_LENGTH_2, feature)


def _field(tag: int, data: bytes) -> bytes:
    return b"".join((bytes((tag,)), _varint(len(data)), data))


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # a negative int64 takes ten bytes
    out = bytearray()
    while value > _SEVEN_BITS:
        out.append(value & _SEVEN_BITS | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_record(data: bytes) -> Record:
    """Parse a serialized Example that holds the features of `Record`.

    Raises:
        errors.DataCorruptError: it does not parse, or a feature is missing or of the wrong kind; the message is a rule,
            for the caller to prefix with the place.
    """
    own = decode_view(memoryview(data))
    if own is not None:
        return own
    features = decode_features(data)
    return Record(
        _single_bytes(features, FEATURE_ENCODED),
        _single_int(features, FEATURE_LABEL),
        _single_bytes(features, FEATURE_FORMAT).decode("ascii", "replace"),
        _single_int(features, FEATURE_HEIGHT),
        _single_int(features, FEATURE_WIDTH),
        _single_int(features, FEATURE_CHANNELS),
        _single_bytes(features, FEATURE_KEY).decode("utf-8", "surrogateescape"),
    )


def _compile_entry(name: str, value: bytes) -> bytes:
    """Return the pattern of one map entry; `value` is that of the value behind its tag."""
    kind = _BYTES_LIST if name in (FEATURE_ENCODED, FEATURE_FORMAT, FEATURE_KEY) else _INT64_LIST
    head = _field(_TAG_LENGTH_1, name.encode()) + bytes((_TAG_LENGTH_2,))
    parts = (_ANY_VARINT, re.escape(head), _ANY_VARINT, re.escape(bytes((kind << 3 | _LENGTH,))), _ANY_VARINT)
    return re.escape(bytes((_TAG_LENGTH_1,))) + b"".join(parts) + re.escape(bytes((_TAG_LENGTH_1,))) + value


def _compile_layout() -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Return the patterns of what lies before the payload and behind it, in the order that `encode_record` writes."""
    integer = _ANY_VARINT + b"(" + _ANY_VARINT + b")"
    head = (
        re.escape(bytes((_TAG_LENGTH_1,))) + _ANY_VARINT,
        _compile_entry(FEATURE_CHANNELS, integer),
        _compile_entry(FEATURE_LABEL, integer),
        _compile_entry(FEATURE_ENCODED, b"(" + _ANY_VARINT + b")"),
    )
    tail = (
        _compile_entry(FEATURE_FORMAT, _ANY_VARINT + b"(raw|png|jpeg)"),
        _compile_entry(FEATURE_HEIGHT, integer),
        _compile_entry(FEATURE_KEY, b"(" + _ANY_VARINT + b")(.*)"),
        _compile_entry(FEATURE_WIDTH, integer),
    )
    return re.compile(b"".join(head), re.DOTALL), re.compile(b"".join(tail), re.DOTALL)


def decode_head(data: bytes, position: int) -> tuple[int, int, int, int] | None:
    """Parse a message that `encode_record` wrote from its beginning, at `position` of `data`, to its payload.

    The order of features is known, so one pattern finds all values. HEAD_BYTES of the message are enough.

    Returns:
        Channels, label, the payload's first place in `data` and the one behind its last; None for another's message.
    """
    found = _HEAD.match(data, position)
    if found is None:
        return None
    channels, label, length = found.groups()
    start = found.end()
    return _own_int(channels), _own_int(label), start, start + _read_length(length)


def decode_tail(data: bytes, stop: int) -> tuple[str, int, str, int] | None:
    """Parse what lies behind the payload, `data` up to `stop`: format, height, key, width; None as `decode_head`."""
    found = _TAIL.fullmatch(data, 0, stop)
    if found is None:
        return None
    kind, height, key_length, key, width = found.groups()
    if len(key) != _read_length(key_length):
        return None
    return _FORMATS[kind], _own_int(height), key.decode("utf-8", "surrogateescape"), _own_int(width)


def decode_view(data: memoryview) -> Record | None:
    """Parse a message that `encode_record` wrote, seven times faster than any other; None when it is another's.

    The payload is copied once, and nothing else of it is.
    """
    head = decode_head(bytes(data[:HEAD_BYTES]), 0)
    if head is None:
        return None
    channels, label, start, stop = head
    end = bytes(data[stop:])
    tail = decode_tail(end, len(end))
    if tail is None:
        return None
    kind, height, key, width = tail
    return Record(bytes(data[start:stop]), label, kind, height, width, channels, key)


@functools.lru_cache(maxsize=4096)
def _read_length(varint: bytes) -> int:
    return _read_varint(varint, 0)[0]


@functools.lru_cache(maxsize=4096)  # labels and sizes in pixels come again and again
def _own_int(varint: bytes) -> int:
    value = _read_varint(varint, 0)[0]
    return value - (1 << 64) if value >> 63 else value


def _single_bytes(features: dict[str, FeatureValue], name: str) -> bytes:
    values = features.get(name)
    if values is None or len(values) != 1 or not isinstance(values[0], bytes):
        raise errors.DataCorruptError(f"must have one bytes value in feature {name!r}")
    return values[0]


def _single_int(features: dict[str, FeatureValue], name: str) -> int:
    values = features.get(name)
    if values is None or len(values) != 1 or not isinstance(values[0], int):
        raise errors.DataCorruptError(f"must have one integer value in feature {name!r}")
    return values[0]


def decode_features(data: bytes) -> dict[str, FeatureValue]:
    """Parse any serialized tf.train.Example to its features' values; a feature of no kind gives an empty list.

    Raises:
        errors.DataCorruptError: the bytes are no protobuf message; the message is a rule.
    """
    features: dict[str, FeatureValue] = {}
    try:
        for number, start, stop in _fields(data, 0, len(data)):
            if number == 1:
                for entry, entry_start, entry_stop in _fields(data, start, stop):
                    if entry == 1:
                        name, value = _decode_entry(data, entry_start, entry_stop)
                        features[name] = value
    except (IndexError, struct.error, UnicodeDecodeError) as e:
        raise errors.DataCorruptError("must be a serialized tf.train.Example") from e
    return features


def _decode_entry(data: bytes, start: int, stop: int) -> tuple[str, FeatureValue]:
    name = ""
    result: FeatureValue = []
    for number, field_start, field_stop in _fields(data, start, stop):
        if number == 1:
            name = data[field_start:field_stop].decode()
        elif number == 2:
            result = _decode_feature(data, field_start, field_stop)
    return name, result


def _decode_feature(data: bytes, start: int, stop: int) -> FeatureValue:
    for kind, list_start, list_stop in _fields(data, start, stop):
        if kind == _BYTES_LIST:
            return [data[a:b] for number, a, b in _fields(data, list_start, list_stop) if number == 1]
        if kind == _INT64_LIST:
            return _decode_ints(data, list_start, list_stop)
        if kind == _FLOAT_LIST:
            return _decode_floats(data, list_start, list_stop)
    return []


def _decode_ints(data: bytes, start: int, stop: int) -> list[int]:
    values: list[int] = []
    for number, value_start, value_stop in _fields(data, start, stop):
        position = value_start if number == 1 else value_stop
        while position < value_stop:  # a packed list, or the one value of an unpacked one
            value, position = _read_varint(data, position)
            values.append(value - (1 << 64) if value >> 63 else value)
    return values


def _decode_floats(data: bytes, start: int, stop: int) -> list[float]:
    return [
        float(value)
        for number, a, b in _fields(data, start, stop)
        if number == 1
        for value in struct.unpack(f"<{(b - a) // 4}f", data[a:b])
    ]


def _fields(data: bytes, position: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield (field number, start, stop) of each field's value; a varint's value is its own bytes."""
    while position < stop:
        tag, position = _read_varint(data, position)
        wire = tag & 7
        if wire == _LENGTH:
            length, position = _read_varint(data, position)
            end = position + length
        elif wire == _VARINT:
            end = _read_varint(data, position)[1]
        elif wire in (_FIXED32, _FIXED64):
            end = position + (4 if wire == _FIXED32 else 8)
        else:
            raise IndexError("groups are not used")
        if end > stop:
            raise IndexError("a field is longer than its message")
        yield tag >> 3, position, end
        position = end


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    byte = data[position]
    if byte <= _SEVEN_BITS:
        return byte, position + 1
    value, shift = byte & _SEVEN_BITS, 7
    while shift < _VARINT_BITS:
        position += 1
        byte = data[position]
        value |= (byte & _SEVEN_BITS) << shift
        if byte <= _SEVEN_BITS:
            return value, position + 1
        shift += 7
    raise IndexError("a varint has ten bytes at most")


_ANY_VARINT = rb"[\x80-\xff]{0,9}[\x00-\x7f]"
_HEAD, _TAIL = _compile_layout()
_FORMATS = {name.encode(): name for name in ("raw", "png", "jpeg")}
HEAD_BYTES = 256
"""Bytes that hold all before the payload, which takes about 80."""
