"""The user's choices for images, and files that are odd, enormous or hostile: each a row of docs/dataset-format.md."""

import io
import random
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, features

import odd_images
from imagetrain_trainer import errors
from imagetrain_trainer.data import image_limits, images

RANDOM = np.random.default_rng(7)
GRAY = RANDOM.integers(0, 256, (7, 9), np.uint8)
COLOR = RANDOM.integers(0, 256, (7, 9, 3), np.uint8)
DEEP = RANDOM.integers(0, 65536, (7, 9), np.uint16)
DEEP_COLOR = RANDOM.integers(0, 65536, (7, 9, 3), np.uint16)
encode, png = odd_images.encode, odd_images.png
SCALE = images.ImagePolicy(sixteen_bit="scale")
FIRST = images.ImagePolicy(animated="first")


def pixels_of(stored):
    return np.asarray(Image.open(io.BytesIO(stored.payload)))


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"sixteen_bit": "round"}, "sixteen_bit must be one of refuse, scale, got 'round'"),
        ({"alpha": "red"}, "alpha must be one of white, black, refuse, got 'red'"),
        ({"animated": "all"}, "animated must be one of refuse, first, got 'all'"),
    ],
)
def test_a_choice_that_there_is_not_is_refused(options, rule):
    with pytest.raises(errors.ConfigError, match=rule):
        images.ImagePolicy(**options)


# What the orientation's number means: how the stored pixels are turned upright (CIPA DC-008 4.6.5.A).
UPRIGHT = {
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.swapaxes(np.rot90(a, 2), 0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_every_exif_orientation_is_turned_upright(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(kind, {})
    stored = images.read_image(encode(COLOR, kind, exif=exif, **options))
    plain = np.asarray(Image.open(io.BytesIO(encode(COLOR, kind, **options))))
    assert stored.format == "png"
    np.testing.assert_array_equal(pixels_of(stored), UPRIGHT[orientation](plain))
    assert (stored.height, stored.width) == UPRIGHT[orientation](plain).shape[:2]


@pytest.mark.parametrize("orientation", [0, 1, 9, 255])
def test_an_orientation_that_means_nothing_keeps_the_bytes(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(COLOR, "JPEG", exif=exif)
    assert images.read_image(data).payload == data


@pytest.mark.filterwarnings("ignore::UserWarning")  # packing ignores Pillow's too
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0" + bytes(50), b"Exif\0\0II*\0"]
)
def test_a_broken_exif_block_is_passed_over(exif):
    data = odd_images.with_segment(encode(COLOR, "JPEG"), 0xE1, exif)
    assert images.read_image(data).payload == data


def test_inverted_and_plain_cmyk_give_the_same_colors():
    cmyk = Image.fromarray(COLOR.repeat(8, 0).repeat(8, 1)).convert("CMYK")
    inverted = encode(cmyk, "JPEG", quality=100, subsampling=0)  # with Adobe's marker, as Photoshop and Pillow write
    plain = odd_images.without_segments(
        encode(Image.eval(cmyk, lambda v: 255 - v), "JPEG", quality=100, subsampling=0), 0xEE
    )
    assert b"Adobe" in inverted
    assert b"Adobe" not in plain
    expected = np.asarray(cmyk.convert("RGB")).astype(int)
    for data in (inverted, plain):
        stored = images.read_image(data)
        assert (stored.format, stored.channels, stored.change) == ("png", 3, "cmyk to rgb")
        assert np.abs(pixels_of(stored) - expected).mean() < 4


def sixteen_bit_files():
    rows = b"".join(b"\0" + row.tobytes() for row in DEEP.astype(">u2"))
    color_rows = b"".join(b"\0" + row.tobytes() for row in DEEP_COLOR.astype(">u2"))
    yield "png gray", png(9, 7, 16, odd_images.PNG_GRAY, rows), DEEP
    yield "png color", png(9, 7, 16, odd_images.PNG_COLOR, color_rows), DEEP_COLOR
    yield "tiff", encode(Image.fromarray(DEEP), "TIFF"), DEEP
    yield "tiff big endian", odd_images.tiff(DEEP.astype(">u2"), photometric=1), DEEP
    yield "pgm", b"P5 9 7 65535\n" + DEEP.astype(">u2").tobytes(), DEEP
    yield "ppm", b"P6 9 7 65535\n" + DEEP_COLOR.astype(">u2").tobytes(), DEEP_COLOR
    yield "jpeg 2000", encode(Image.fromarray(DEEP), "JPEG2000"), DEEP


@pytest.mark.parametrize(("name", "data", "values"), list(sixteen_bit_files()))
def test_sixteen_bits_are_refused_or_scaled_to_the_upper_eight(name, data, values):
    with pytest.raises(
        errors.ConfigError, match=r"must have 8 bits per channel, got 16 or more .* --sixteen-bit scale"
    ):
        images.read_image(data)
    stored = images.read_image(data, policy=SCALE)
    assert (stored.format, stored.channels) == ("png", 1 if values.ndim == 2 else 3)
    assert stored.change.endswith("16 bit to 8 bit")
    allowed = 1 if name == "ppm" else 0  # Pillow rounds its values
    assert np.abs(pixels_of(stored).astype(int) - (values >> 8)).max() <= allowed


def test_sixteen_bits_with_alpha_are_scaled_and_laid_on_the_background():
    alpha = np.full((7, 9, 1), 65535, ">u2")
    alpha[0] = 0
    rows = b"".join(b"\0" + row.tobytes() for row in np.concatenate([DEEP_COLOR, alpha], 2).astype(">u2"))
    stored = images.read_image(png(9, 7, 16, odd_images.PNG_COLOR_ALPHA, rows), policy=SCALE)
    assert stored.change == "16 bit to 8 bit, alpha laid on white"
    expected = (DEEP_COLOR >> 8).astype(np.uint8)
    expected[0] = 255
    np.testing.assert_array_equal(pixels_of(stored), expected)
    gray = np.where(DEEP[3, 4] == DEEP, 0xABCD, DEEP).astype(">u2")
    transparent = struct.pack(">H", 0xABCD)
    stored = images.read_image(
        png(9, 7, 16, odd_images.PNG_GRAY, b"".join(b"\0" + row.tobytes() for row in gray), tRNS=transparent),
        policy=SCALE,
    )
    np.testing.assert_array_equal(pixels_of(stored), np.where(gray == 0xABCD, 255, gray >> 8))


@pytest.mark.parametrize(
    "data",
    [
        encode(Image.fromarray(GRAY.astype(np.float32)), "TIFF"),
        encode(Image.fromarray(GRAY.astype(np.int32)), "TIFF"),
        odd_images.tiff(DEEP.astype("<u2"), photometric=0),  # white is zero, which Pillow does not turn round
    ],
)
def test_deep_images_of_no_known_range_are_refused_even_so(data):
    with pytest.raises(errors.ConfigError, match=r"must have 8 bits per channel, .*: scale it to 8 bits first$"):
        images.read_image(data, policy=SCALE)


def with_alpha(alpha):
    return Image.fromarray(np.dstack([COLOR, np.broadcast_to(alpha, (7, 9)).astype(np.uint8)]))


def transparent_files():
    half = np.zeros((7, 9), np.uint8)
    half[3:] = 255
    palette = Image.fromarray(COLOR).quantize(16)
    gray_alpha = Image.merge("LA", (Image.fromarray(GRAY), Image.fromarray(half)))
    yield encode(with_alpha(half), "PNG"), COLOR, half
    yield encode(with_alpha(half), "WEBP", lossless=True, exact=True), COLOR, half
    yield encode(with_alpha(half), "TIFF"), COLOR, half
    yield encode(gray_alpha, "PNG"), GRAY, half
    indices = np.asarray(palette)
    opaque = np.where(indices == indices[2, 2], 0, 255).astype(np.uint8)
    yield encode(palette, "PNG", transparency=int(indices[2, 2])), np.asarray(palette.convert("RGB")), opaque
    yield encode(GRAY, "PNG", transparency=int(GRAY[1, 1])), GRAY, np.where(GRAY[1, 1] == GRAY, 0, 255)


@pytest.mark.parametrize(("data", "pixels", "alpha"), list(transparent_files()))
@pytest.mark.parametrize(("choice", "background"), [("white", 255), ("black", 0)])
def test_transparent_pixels_are_laid_on_white_or_black(data, pixels, alpha, choice, background):
    stored = images.read_image(data, policy=images.ImagePolicy(alpha=choice))
    assert f"alpha laid on {choice}" in stored.change
    mask = alpha.astype(bool) if pixels.ndim == 2 else alpha.astype(bool)[..., None]
    np.testing.assert_array_equal(pixels_of(stored), np.where(mask, pixels, background))


@pytest.mark.parametrize("data", [data for data, _, _ in transparent_files()])
def test_transparent_pixels_are_refused_where_the_user_says_so(data):
    with pytest.raises(
        errors.ConfigError, match=r"must have no alpha channel or transparent color: .* --alpha white or"
    ):
        images.read_image(data, policy=images.ImagePolicy(alpha="refuse"))


def moving_files():
    others = [Image.fromarray(255 - COLOR), Image.fromarray(COLOR)]
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        yield kind, encode(COLOR, kind, save_all=True, append_images=others, **options)
    yield "GIF", encode(GRAY, "GIF", save_all=True, append_images=[Image.fromarray(255 - GRAY)])
    yield "GIF", encode(GRAY, "GIF")  # a single picture, but a GIF


@pytest.mark.parametrize(("kind", "data"), list(moving_files()))
def test_animations_are_refused_or_their_first_picture_taken(kind, data):
    with pytest.raises(errors.ConfigError, match=r"must be one still image, .* --animated first"):
        images.read_image(data)
    stored = images.read_image(data, policy=FIRST)
    assert (stored.format, "first frame taken" in stored.change) == ("png", True)
    expected = np.stack([GRAY] * 3, -1) if kind == "GIF" and stored.channels == 3 else GRAY if kind == "GIF" else COLOR
    np.testing.assert_array_equal(pixels_of(stored), expected)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_stored_as_png_and_its_deep_variant_is_refused():
    data = encode(COLOR, "AVIF", quality=100)
    stored = images.read_image(data)
    assert (stored.format, stored.change, stored.channels) == ("png", "avif to png", 3)
    start = data.index(b"av1C")
    deep = bytearray(data)
    deep[start + 6] |= 0x40
    with Image.open(io.BytesIO(data)) as image:  # Pillow does not write what it would open as 8 bits
        assert not image_limits.has_deep_channels(image, data)
        assert image_limits.has_deep_channels(image, bytes(deep))
    with pytest.raises(errors.ConfigError, match="must be one still image"):
        images.read_image(encode(COLOR, "AVIF", save_all=True, append_images=[Image.fromarray(255 - COLOR)]))


@pytest.mark.parametrize(("bits", "is_deep"), [(8, False), (10, True), (16, True)])
def test_deep_color_of_jpeg_2000_is_noticed_though_pillow_opens_it_as_8_bits(bits, is_deep):
    data = bytearray(encode(COLOR, "JPEG2000"))
    with Image.open(io.BytesIO(data)) as image:
        data[data.index(b"\xff\x4f\xff\x51") + 42] = bits - 1
        assert image_limits.has_deep_channels(image, bytes(data)) == is_deep


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 2}, {"quality": 1}, {"optimize": True}])
def test_jpegs_of_the_usual_kinds_keep_their_bytes(options):
    data = encode(COLOR, "JPEG", **options)
    assert images.read_image(data).payload == data


def test_a_lossless_jpeg_is_stored_as_png_for_few_decoders_know_it():
    stored = images.read_image(odd_images.lossless_jpeg(16, 8))
    assert (stored.format, stored.change) == ("png", "uncommon jpeg to png")
    assert set(pixels_of(stored).ravel().tolist()) == {128}


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (odd_images.with_precision(encode(COLOR, "JPEG"), 12), "must have 8 bits per channel, got a JPEG of 12"),
        (odd_images.with_precision(encode(COLOR, "JPEG", progressive=True), 12), "got a JPEG of 12"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), "got a HEIC file: convert it to JPEG or PNG first"),
        (b"\n<!DOCTYPE HTML><html>404</html>", "got a web page: the download failed"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "got an SVG drawing"),
        (b"%PDF-1.7\n", "got a PDF document"),
        # Pillow would start Ghostscript on it.
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 7\n%%EndComments\n", "got a PostScript document"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "must be an image that Pillow can read"),
        (b"GIF89a" + bytes(7), "must be (one still|an image|a whole)"),
        (b"\0", "must be an image that Pillow can read"),
    ],
)
def test_what_is_no_image_here_is_refused_with_what_it_is(data, rule):
    with pytest.raises(errors.ConfigError, match=rule):
        images.read_image(data)


def test_a_file_is_what_its_bytes_say_and_not_its_name(tree):
    # The rule needs no name at all; a source passes bytes. Here a PNG is called .jpg, as half the web does.
    path = tree / "cats" / "wrong.jpg"
    path.write_bytes(encode(COLOR, "PNG"))
    assert images.read_image(path.read_bytes()).format == "png"


def test_enormous_metadata_is_kept_and_bounded():
    profile = RANDOM.integers(0, 256, 2_000_000, np.uint8).tobytes()
    jpeg = odd_images.with_segment(encode(COLOR, "JPEG", icc_profile=profile), 0xE1, b"Exif\0\0" + bytes(65_000))
    assert len(jpeg) > 2_000_000
    assert images.read_image(jpeg).payload == jpeg
    inflating = png(9, 7, 8, odd_images.PNG_GRAY, b"".join(b"\0" + row.tobytes() for row in GRAY))
    bomb = b"icc\0\0" + zlib.compress(bytes(100_000_000), 9)
    with pytest.raises(errors.ConfigError, match="must be a whole image that decodes"):
        images.read_image(odd_images.with_chunk(inflating, b"iCCP", bomb))


def test_text_that_inflates_is_refused():
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 50_000_000, zip=True)
    with pytest.raises(errors.ConfigError, match="must be a whole image that decodes"):
        images.read_image(encode(GRAY, "PNG", pnginfo=info))


def test_a_jpeg_of_very_many_scans_is_refused():
    data = encode(COLOR, "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    bomb = data[:last] + data[last:-2] * 600 + b"\xff\xd9"
    with pytest.raises(errors.ConfigError, match=r"must be a JPEG of at most 500 scans, got 6\d\d"):
        images.read_image(bomb)


BOMBS = {
    "png": png(60_000, 60_000, 8, odd_images.PNG_COLOR, zlib.compress(bytes(1 << 20))),
    "gif": b"GIF89a"
    + struct.pack("<HHBBB", 60_000, 60_000, 0, 0, 0)
    + b","
    + struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0),
    "bmp": b"BM" + struct.pack("<IHHI", 0, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, *[0] * 6),
    "jpeg": odd_images.with_size(encode(COLOR, "JPEG"), 60_000, 60_000),
    "ppm": b"P6 60000 60000 255\n",
    "webp": odd_images.vp8x(16_000_000, 250),
    "tiff tiles": odd_images.tiff(GRAY, photometric=1, tile=(65_536, 65_536)),
}
_DECODE = """
import resource, sys
from imagetrain_trainer import errors
from imagetrain_trainer.data import image_limits, images
images.read_image(sys.stdin.buffer.read(int(sys.argv[1])))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    images.read_image(sys.stdin.buffer.read(), policy=images.ImagePolicy(animated="first"))
except errors.ConfigError as e:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, e)
"""


@pytest.mark.parametrize("name", BOMBS)
def test_an_image_of_enormous_dimensions_is_refused_before_memory_is_spent(name):
    warm = encode(COLOR, "PNG")
    command = [sys.executable, "-W", "ignore", "-c", _DECODE, str(len(warm))]
    result = subprocess.run(command, input=warm + BOMBS[name], capture_output=True, check=True)
    used_kib, _, message = result.stdout.decode().partition(" ")
    assert int(used_kib) < 20_000
    assert "pixels" in message or "decodes" in message or "can read" in message


@pytest.mark.filterwarnings("ignore")  # packing ignores Pillow's too
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "PPM", "TGA", "JPEG2000", "ICO"])
def test_flipped_bytes_give_an_image_or_a_refusal_and_nothing_else(kind):
    data = encode(Image.fromarray(COLOR).convert("RGB").resize((16, 16)), kind)
    generator = random.Random(kind)
    policy = images.ImagePolicy(sixteen_bit="scale", animated="first")
    for _ in range(150):
        broken = bytearray(data)
        for _ in range(generator.randint(1, 4)):
            broken[generator.randrange(min(len(broken), 400))] = generator.randrange(256)
        try:
            stored = images.read_image(bytes(broken), policy=policy)
        except errors.ConfigError as e:
            assert str(e).startswith("must ")  # noqa: PT017 - either outcome is right, but a refusal is a rule
        else:
            assert stored.height * stored.width <= images.MAX_PIXELS
