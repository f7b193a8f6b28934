"""Photographs under the rule that has a JPEG shrunk by its decoder: as Pillow's `draft` and one resize have it, in
every form of file, and failing where they fail when they are decoded whole.
"""

import io
import itertools
import random

import files
import msgspec
import numpy as np
import pytest
from PIL import Image, ImageCms

from vae_serve.errors import ImageError
from vae_serve.images import fast, fitting, memory, pillow
from vae_serve.images.decode import decode
from vae_serve.images.framing import jpeg_scale
from vae_serve.images.pixels import PIXEL_LIMIT, PixelRule

BILINEAR = Image.Resampling.BILINEAR
SIZE = (21, 13)  # width, height


def scaled(height: int, width: int, channels: int, **others) -> PixelRule:
    return PixelRule(height, width, channels, decode="scaled", **others)


def whole(rule: PixelRule) -> PixelRule:
    return msgspec.structs.replace(rule, decode="whole")


def smooth(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A picture with the slow changes and the few edges of a photograph."""
    levels = np.random.default_rng(width).integers(0, 256, (height // 25 + 1, width // 25 + 1, 3)).astype(np.uint8)
    return Image.fromarray(levels).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def outcome(data: bytes, rule: PixelRule) -> object:
    """What becomes of a file, but for its pixels."""
    try:
        picture = decode(data, rule)
    except ImageError as error:
        return error.kind
    return picture.size, picture.notes


@pytest.mark.parametrize(
    ("picture", "size", "fit", "scale"),
    [
        ((1024, 768), (28, 28), "stretch", 8),
        ((224, 224), (28, 28), "stretch", 8),
        ((223, 224), (28, 28), "stretch", 4),  # 223 / 8 is less than 28
        ((1024, 111), (28, 28), "stretch", 2),
        ((55, 5000), (28, 28), "stretch", 1),
        ((28, 28), (28, 28), "stretch", 1),
        ((1, 65_000), (28, 28), "stretch", 1),
        ((1, 65_000), (28, 28), "pad", 1),
        ((65_000, 8), (28, 28), "pad", 8),  # becomes a line of one pixel
        ((1024, 200), (28, 28), "pad", 8),  # of which 28 x 5 are the picture
        ((1024, 112), (28, 28), "crop", 4),  # of 112 x 112
        ((2000, 2000), (1, 1), "crop", 8),
    ],
)
def test_the_scale_is_the_smallest_that_leaves_no_less_than_is_wanted(picture, size, fit, scale):
    rule = scaled(size[1], size[0], 1, fit=fit)
    assert jpeg_scale(picture, rule) == scale
    assert jpeg_scale(picture, whole(rule)) == 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("width", "height"), [(168, 104), (175, 111), (61, 45), (84, 400)])
def test_the_pixels_are_those_of_a_draft_resized_from_the_same_box(width, height, channels):
    data = files.saved(smooth(width, height), "JPEG", quality=90)
    scale = next(scale for scale in (8, 4, 2) if width >= scale * SIZE[0] and height >= scale * SIZE[1])
    image = Image.open(io.BytesIO(data))
    image.draft("L" if channels == 1 else "RGB", (width // scale, height // scale))
    assert image.size == (-(-width // scale), -(-height // scale))
    expected = np.atleast_3d(np.asarray(image.resize(SIZE, BILINEAR, (0, 0, width / scale, height / scale))))
    picture = decode(data, scaled(SIZE[1], SIZE[0], channels))
    assert np.array_equal(picture.pixels, expected)
    assert picture.size == (width, height)


def test_what_does_not_shrink_by_two_is_decoded_as_it_always_was():
    for width, height in ((41, 25), (SIZE[0] * 2 - 1, 200), (200, SIZE[1] * 2 - 1), SIZE, (10, 8)):
        data = files.saved(smooth(width, height), "JPEG", quality=90)
        for channels, fit in itertools.product((1, 3), ("stretch", "crop")):
            rule = scaled(SIZE[1], SIZE[0], channels, fit=fit)
            assert np.array_equal(decode(data, rule).pixels, decode(data, whole(rule)).pixels)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "BMP"])
def test_other_formats_are_decoded_whole(form):
    data = files.saved(smooth(300, 200), form)
    rule = scaled(SIZE[1], SIZE[0], 3)
    assert np.array_equal(decode(data, rule).pixels, decode(data, whole(rule)).pixels)


@pytest.mark.parametrize("form", ["plain", "with imagecodecs", "in strips"])
@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_turned_the_pixels_are_those_of_the_stored_picture_turned_afterwards(fit, form, monkeypatch):
    if form == "with imagecodecs" and not fast.AVAILABLE:
        pytest.skip("the extra 'fast' is not installed")
    if form == "plain":
        monkeypatch.setattr(fast, "_decode_jpeg", fast._by_pillow)
    if form == "in strips":
        monkeypatch.setattr(fitting, "WHOLE", 50)
        monkeypatch.setattr(fitting, "STRIP", 50)
    stored = smooth(175, 111)  # at 1/8 its last column and row are of seven pixels
    upright = files.saved(stored, "JPEG", quality=90)
    for orientation, channels in itertools.product(range(2, 9), (1, 3)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture = decode(files.saved(stored, "JPEG", quality=90, exif=exif), scaled(13, 18, channels, fit=fit))
        size = (13, 18) if orientation < 5 else (18, 13)  # with margins that are even in `pad`
        before = decode(upright, scaled(*size, channels, fit=fit)).pixels
        image = Image.fromarray(before.squeeze()).transpose(fitting._TURNS[orientation])
        difference = np.abs(np.atleast_3d(np.asarray(image)).astype(int) - picture.pixels)
        assert difference.max() <= 1, (orientation, channels)  # weights are rounded in the other direction
        assert picture.size == ((175, 111) if orientation < 5 else (111, 175))
        assert "turned" in picture.notes


def with_restarts(mode: str) -> bytes:
    return files.saved(smooth(175, 111, mode), "JPEG", restart_marker_blocks=2)


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ODD = {
    "grey": files.saved(smooth(175, 111, "L"), "JPEG"),
    "4:4:4": files.saved(smooth(175, 111), "JPEG", subsampling="4:4:4"),
    "4:2:2": files.saved(smooth(175, 111), "JPEG", subsampling="4:2:2"),
    "4:2:0": files.saved(smooth(175, 111), "JPEG", subsampling="4:2:0"),
    "RGB": files.saved(smooth(175, 111), "JPEG", keep_rgb=True),
    "progressive": files.saved(smooth(175, 111), "JPEG", progressive=True),
    "grey, progressive": files.saved(smooth(175, 111, "L"), "JPEG", progressive=True),
    "restart markers": with_restarts("RGB"),
    "grey, restart markers": with_restarts("L"),
    "CMYK": files.saved(smooth(175, 111, "CMYK"), "JPEG"),
    "CMYK, progressive": files.saved(smooth(175, 111, "CMYK"), "JPEG", progressive=True),
    "quality 100": files.saved(smooth(175, 111), "JPEG", quality=100),
    "a profile": files.saved(smooth(175, 111), "JPEG", icc_profile=PROFILE),
}
YCCK = ODD["CMYK"].replace(b"Adobe\0d\0\0\0\0\0", b"Adobe\0d\0\0\0\0\2", 1)  # the same samples, said to be YCCK
ODD["YCCK"] = YCCK
if fast.AVAILABLE:
    from imagecodecs import jpeg8_encode

    ODD["4:1:1"] = jpeg8_encode(np.asarray(smooth(175, 111)), subsampling="411")  # what Pillow calls so is 4:2:0


def test_the_odd_files_are_what_they_are_called():
    assert ODD["CMYK"] != YCCK
    assert b"\xff\xdd" in ODD["restart markers"]
    assert ODD["RGB"] != ODD["4:4:4"]


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_jpeg_is_the_same_row_but_for_a_few_levels(kind):
    for fit, channels in itertools.product(("stretch", "crop", "pad"), (1, 3)):
        rule = scaled(SIZE[1], SIZE[0], channels, fit=fit)
        assert jpeg_scale((175, 111), rule) == 8
        assert outcome(ODD[kind], rule) == outcome(ODD[kind], whole(rule)) == ((175, 111), ())
        difference = np.abs(decode(ODD[kind], rule).pixels.astype(int) - decode(ODD[kind], whole(rule)).pixels)
        # of 4:2:2 and 4:1:1 libjpeg takes one colour for 16 or 32 pixels across, at 1/8
        assert difference.mean() < {"4:2:2": 8, "4:1:1": 20}.get(kind, 4), (fit, channels)
        assert difference.max() > 0  # it was another way of decoding


# Damage within the very last block can make the last pixel of the whole picture grey by chance, and that of the shrunk
# one not.
BY_CHANCE = 1


@pytest.mark.parametrize("kind", ODD)
def test_a_cut_jpeg_fails_where_it_does_whole(kind):
    data, kinds, others = ODD[kind], set(), 0
    step = max(1, len(data) // 120)
    for end, channels in itertools.product((b"", b"\xff\xd9"), (1, 3)):
        rule = scaled(SIZE[1], SIZE[0], channels)
        for cut in [*range(2, len(data) - 2, step), *range(len(data) - 40, len(data) - 2)]:
            found = outcome(data[:cut] + end, rule)
            others += found != outcome(data[:cut] + end, whole(rule))
            kinds.add(found if isinstance(found, str) else "ok")
    assert others <= BY_CHANCE
    assert "truncated" in kinds


@pytest.mark.parametrize("kind", ["grey", "4:2:0", "progressive", "CMYK", "restart markers"])
def test_a_damaged_jpeg_ends_as_it_does_whole(kind):
    chance, others = random.Random(kind), 0
    for _ in range(300):
        data = bytearray(ODD[kind])
        at = chance.randrange(len(data))
        match chance.randrange(3):
            case 0:
                data[chance.randrange(min(700, len(data)))] ^= 1 << chance.randrange(8)
            case 1:
                del data[at : at + chance.randrange(40)]
            case 2:
                data[at : at + 2] = bytes([0xFF, chance.choice([0xD0, 0xD9, 0xDA, 0xC0])])
        rule = scaled(13, 21, chance.choice([1, 3]), fit=chance.choice(["stretch", "crop", "pad"]))
        others += outcome(bytes(data), rule) != outcome(bytes(data), whole(rule))
    assert others <= BY_CHANCE


@pytest.mark.parametrize(("width", "height"), [(1, 65_000), (65_000, 1), (16, 65_000), (1, 1), (9, 500)])
def test_a_very_thin_jpeg_is_the_same_row(width, height):
    data = files.saved(smooth(width, height), "JPEG")
    for fit in ("stretch", "crop", "pad"):
        rule = scaled(28, 28, 1, fit=fit)
        assert outcome(data, rule) == outcome(data, whole(rule)) == ((width, height), ())


@pytest.mark.parametrize("decoder", ["imagecodecs", "Pillow"])
def test_every_way_of_decoding_gives_the_same_bytes(decoder, monkeypatch):
    if decoder == "Pillow":
        monkeypatch.setattr(fast, "_decode_jpeg", fast._by_pillow)
    elif not fast.AVAILABLE:
        pytest.skip("the extra 'fast' is not installed")
    for (width, height), mode, channels in itertools.product([(20, 12), (41, 80), (175, 111)], ("L", "RGB"), (1, 3)):
        data = files.saved(smooth(width, height, mode), "JPEG")
        rule = scaled(SIZE[1], SIZE[0], channels)
        assert np.array_equal(decode(data, rule).pixels, pillow.decode(data, rule).pixels)
        assert (fast.decode(data, rule) is None) == (jpeg_scale((width, height), rule) > 1)


def test_the_limit_of_memory_counts_the_pixels_that_are_decoded(monkeypatch):
    data = files.saved(smooth(800, 600), "JPEG", progressive=True)  # 6 bytes of coefficients a pixel of the file
    monkeypatch.setattr(memory, "LIMIT", 800 * 600 * 8)
    assert outcome(data, PixelRule(28, 28, 3)) == "too_large"
    assert outcome(data, scaled(28, 28, 3)) == ((800, 600), ())
    monkeypatch.setattr(memory, "LIMIT", 800 * 600 * 6)
    assert outcome(data, scaled(28, 28, 3)) == "too_large"
    monkeypatch.undo()
    memory.limit_pixels(400_000)
    try:
        assert outcome(data, scaled(28, 28, 3)) == "too_large"
    finally:
        memory.limit_pixels(PIXEL_LIMIT)
