"""A contact sheet: some images of a data set on one picture, each with its label and its key."""

import colorsys
import dataclasses
import functools
import io
import math
import unicodedata
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from imagetrain_trainer.data import choose, example

_BOX = 128  # pixels of the square that an image is fitted into
_GAP = 14
_MARGIN = 28
_STRIP = 4  # the class's color below the image
_CAPTION = 36
_TITLE = 72
_MOST_COLUMNS = 12
_BACKGROUND, _BEHIND = (255, 255, 255), (238, 238, 238)
_INK, _PALE, _FAULT = (24, 24, 24), (118, 118, 118), (176, 0, 32)
_GOLDEN_ANGLE = 0.381966  # neighbors' hues lie far apart
_MISSING_GLYPH = "\U0010ffff"
_FORMATS = ("PNG", "JPEG", "MPO")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """The text above the images: one large line and one small one."""

    title: str
    subtitle: str


def draw(chosen: Sequence[choose.Chosen], class_names: Sequence[str], caption: Caption) -> Image.Image:
    """Draw images in rows, RGB; small ones are enlarged by a whole factor, large ones made smaller.

    An image that does not decode leaves a field that says so.
    """
    columns = max(4, min(_MOST_COLUMNS, math.ceil(math.sqrt(len(chosen) * 1.4))))
    rows = math.ceil(len(chosen) / columns)
    step_x, step_y = _BOX + _GAP, _BOX + _STRIP + _CAPTION + _GAP
    width = 2 * _MARGIN + columns * step_x - _GAP
    sheet = Image.new("RGB", (width, _MARGIN + _TITLE + rows * step_y), _BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    room = width - 2 * _MARGIN
    _write(pen, (_MARGIN, _MARGIN - 6), caption.title, _font(24), room)
    _write(pen, (_MARGIN, _MARGIN + 28), caption.subtitle, _font(13), room, _PALE)
    for number, each in enumerate(chosen):
        left = _MARGIN + number % columns * step_x
        top = _MARGIN + _TITLE + number // columns * step_y
        _draw_cell(sheet, pen, (left, top), each.record, class_names)
    return sheet


def _draw_cell(
    sheet: Image.Image,
    pen: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    record: example.Record,
    class_names: Sequence[str],
) -> None:
    left, top = corner
    pen.rectangle((left, top, left + _BOX - 1, top + _BOX - 1), _BEHIND)
    try:
        image = _fit(_decode(record))
        sheet.paste(image, (left + (_BOX - image.width) // 2, top + (_BOX - image.height) // 2))
    except Exception:  # noqa: BLE001 - Pillow's decoders raise whatever broken bytes lead them to
        _write(pen, (left + 8, top + _BOX // 2 - 8), "does not decode", _font(13), _BOX - 16, _FAULT)
    below = top + _BOX
    pen.rectangle((left, below, left + _BOX - 1, below + _STRIP - 1), _color_of(record.label))
    name = class_names[record.label] if 0 <= record.label < len(class_names) else "no class"
    _write(pen, (left, below + _STRIP + 3), f"{record.label} {name}", _font(14), _BOX)
    _write(pen, (left, below + _STRIP + 20), record.key, _font(11), _BOX, _PALE, is_end_kept=True)


def _decode(record: example.Record) -> Image.Image:
    if record.format == "raw":
        shape = (record.height, record.width, record.channels)
        pixels = np.frombuffer(record.payload, np.uint8).reshape(shape)
        return Image.fromarray(pixels[..., 0] if record.channels == 1 else pixels)
    with Image.open(io.BytesIO(record.payload), formats=_FORMATS) as image:
        image.draft(None, (_BOX, _BOX))  # a JPEG is decoded at the smallest size that is large enough
        image.load()
        return image


def _fit(image: Image.Image) -> Image.Image:
    image = image if image.mode in ("L", "RGB") else image.convert("RGB")
    longest = max(image.size)
    if longest <= _BOX:
        factor = _BOX // longest
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    scale = _BOX / longest
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _color_of(label: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hls_to_rgb(label * _GOLDEN_ANGLE % 1.0, 0.5, 0.65)
    return round(red * 255), round(green * 255), round(blue * 255)


def _write(
    pen: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    text: str,
    font: ImageFont.FreeTypeFont,
    room: int,
    color: tuple[int, int, int] = _INK,
    *,
    is_end_kept: bool = False,
) -> None:
    """Write one line, cut to the room there is at its end, or where that says more at its beginning."""
    shown = "".join(map(_drawable, text))
    cut = shown
    while cut and font.getlength(cut if cut == shown else f"{cut}...") > room:
        cut = cut[1:] if is_end_kept else cut[:-1]
    if cut != shown:
        cut = f"...{cut}" if is_end_kept else f"{cut.rstrip()}..."
    pen.text(corner, cut, color, font)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)  # Pillow's own, so that a sheet looks the same everywhere
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow's wheels have FreeType"
    return font


@functools.cache
def _drawable(character: str) -> str:
    """Return a character that the font has: itself, its letter without accents, or a question mark."""
    plain = unicodedata.normalize("NFKD", character)[:1]
    return next((each for each in (character, plain) if _has_glyph(each)), "?")


def _has_glyph(character: str) -> bool:
    return character.isspace() or bytes(_font(14).getmask(character)) != bytes(_font(14).getmask(_MISSING_GLYPH))
