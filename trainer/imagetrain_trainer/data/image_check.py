"""Whether a record's image is what its features and its data set say. Pure."""

import io

from PIL import Image

from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset, example

_FORMATS = {"jpeg": ("JPEG", "MPO"), "png": ("PNG",)}  # Pillow calls a phone's JPEG of two pictures MPO
_MODES = {1: "L", 3: "RGB"}


def check_features(record: example.Record, image: dataset.ImageFacts) -> None:
    """Check format, channels and size against the data set, without decoding.

    Raises:
        errors.DataCorruptError: one differs; the message is a rule, for the caller to prefix with the place.
    """
    formats = ("png", "jpeg") if image.encoding == "mixed" else (image.encoding,)
    _require(record.format in formats, f"must have image/format {' or '.join(formats)}, got {record.format[:20]!r}")
    # A gray image in a set of color is repeated when it is decoded.
    channels = "1" if image.channels == 1 else "1 or 3"
    _require(str(record.channels) in channels.split(), f"must have image/channels {channels}, got {record.channels}")
    lowest, highest = (image.min_height, image.min_width), (image.max_height, image.max_width)
    is_within = lowest[0] <= record.height <= highest[0] and lowest[1] <= record.width <= highest[1]
    _require(
        is_within,
        f"must have a size of {lowest[0]}-{highest[0]} x {lowest[1]}-{highest[1]} pixels as dataset.json says, got "
        f"{record.height} x {record.width}",
    )
    if record.format == "raw":
        expected = record.height * record.width * record.channels
        _require(len(record.payload) == expected, f"must have {expected} bytes of pixels, got {len(record.payload)}")


def check_decodes(record: example.Record) -> None:
    """Decode the image completely and compare it with its features.

    Raises:
        errors.DataCorruptError: it does not decode, or to another format, size or number of channels.
    """
    if record.format == "raw":
        return  # its length is all there is to check
    try:
        with Image.open(io.BytesIO(record.payload), formats=_FORMATS[record.format]) as image:
            image.load()
            found = (image.height, image.width, image.mode)
    except Exception as e:  # Pillow's decoders raise whatever broken bytes lead them to: struct.error, KeyError, ...
        raise errors.DataCorruptError(f"must hold a {record.format} that decodes ({str(e)[:80]})") from e
    expected = (record.height, record.width, _MODES[record.channels])
    _require(
        found == expected,
        f"must decode to {expected[0]} x {expected[1]} pixels of mode {expected[2]}, got {found[0]} x {found[1]} of "
        f"{found[2]}",
    )


def _require(is_met: bool, rule: str) -> None:  # noqa: FBT001
    if not is_met:
        raise errors.DataCorruptError(rule)
