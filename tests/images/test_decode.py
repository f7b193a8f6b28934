"""From a file's bytes to the model's pixels: each kind of picture by the rule, each broken one by its kind."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vae_serve.errors import ImageError
from vae_serve.images.decode import decode
from vae_serve.images.pixels import PixelRule

RULE = PixelRule(8, 8, 1)
RGB = PixelRule(8, 8, 3)
RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def file(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    room = io.BytesIO()
    image.save(room, form, **options)
    return room.getvalue()


def grey(data: bytes, rule: PixelRule = RULE) -> np.ndarray:
    return decode(data, rule).pixels[:, :, 0]


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def test_grey_stays_as_it_is():
    assert np.array_equal(grey(file(Image.fromarray(RAMP))), RAMP)


def test_colour_becomes_luma_for_a_grey_model():
    # ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B
    for colour, luma in (((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29), ((10, 200, 30), 124)):
        assert (grey(file(Image.new("RGB", (8, 8), colour))) == luma).all()


def test_grey_fills_all_channels_of_a_colour_model():
    assert np.array_equal(decode(file(Image.fromarray(RAMP)), RGB).pixels, np.dstack([RAMP] * 3))


def test_sixteen_bits_are_scaled_not_clipped():
    deep = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    assert np.array_equal(grey(file(Image.fromarray(deep))), np.rint(deep / 257).astype(np.uint8))


def test_floats_from_0_to_1_are_scaled():
    floats = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    assert np.array_equal(grey(file(Image.fromarray(floats), "TIFF")), np.rint(floats * 255).astype(np.uint8))


@pytest.mark.parametrize("level", [-0.5, 17.0, np.nan])
def test_floats_beyond_0_to_1_have_no_meaning(level):
    with pytest.raises(ImageError, match="0 to 1 has a meaning") as caught:
        decode(file(Image.fromarray(np.full((8, 8), level, np.float32)), "TIFF"), RULE)
    assert caught.value.kind == "range"


def test_one_bit_becomes_black_and_white():
    bits = RAMP > 100
    assert np.array_equal(grey(file(Image.fromarray(bits))), bits * np.uint8(255))


def test_black_ink_on_transparency_is_black_on_white():
    ink = np.zeros((8, 8, 4), np.uint8)
    ink[2:6, 2:6, 3] = 255
    expected = np.full((8, 8), 255, np.uint8)
    expected[2:6, 2:6] = 0
    assert np.array_equal(grey(file(Image.fromarray(ink))), expected)


def test_transparency_shows_the_stated_background():
    clear = file(Image.new("RGBA", (8, 8), (0, 0, 0, 0)))
    assert (grey(clear, PixelRule(8, 8, 1, background=7)) == 7).all()


def test_a_palette_with_transparency_is_composited():
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 10, 10, 90, 90, 90])
    image.paste(1, (0, 0, 4, 8))
    pixels = grey(file(image, transparency=0))
    assert (pixels[:, :4] == 90).all()
    assert (pixels[:, 4:] == 255).all()


def test_one_grey_level_that_stands_for_nothing_is_background():
    assert (grey(file(Image.new("L", (8, 8), 3), transparency=3)) == 255).all()


def test_cmyk_becomes_colour():
    pixels = decode(file(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100), RGB).pixels
    assert np.abs(pixels.astype(int) - [255, 0, 0]).max() <= 3  # JPEG


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_picture_is_turned_as_its_exif_says(form):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera stood on its right side: to be shown turned by 90 degrees clockwise
    image = Image.fromarray(np.repeat(np.repeat(RAMP, 4, 0), 4, 1)[:, :16])
    found = decode(file(image.convert("RGB"), form, exif=exif), RULE)
    assert found.size == (32, 16)
    assert found.notes == ("turned",)
    upright = np.asarray(image.rotate(-90, expand=True).resize((8, 8), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(found.pixels[:, :, 0] - upright).max() <= 12  # the lossy forms


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_many_frames_the_first_is_taken_and_said_so(form):
    frames = [Image.new("L", (8, 8), level) for level in (40, 80, 120)]
    lossless = {"lossless": True} if form == "WEBP" else {}
    found = decode(file(frames[0], form, save_all=True, append_images=frames[1:], **lossless), RULE)
    assert (found.pixels == 40).all()
    assert found.notes == ("animated",)


def test_one_pixel_fills_the_model():
    found = decode(file(Image.new("L", (1, 1), 77)), RULE)
    assert (found.pixels == 77).all()
    assert found.size == (1, 1)


def test_stretch_fills_the_frame():
    halves = Image.new("L", (64, 16), 0)
    halves.paste(200, (32, 0, 64, 16))
    pixels = grey(file(halves))
    assert (pixels[:, :3] == 0).all()
    assert (pixels[:, 5:] == 200).all()


def test_pad_keeps_the_shape_and_goes_on_in_the_borders_colour():
    wide = Image.new("L", (64, 32), 30)
    wide.paste(200, (8, 4, 56, 28))
    pixels = grey(file(wide), PixelRule(8, 8, 1, fit="pad"))
    assert (pixels[:2] == 30).all()
    assert (pixels[6:] == 30).all()
    assert (pixels[3:5, 3:5] == 200).all()


def test_crop_keeps_the_shape_and_the_middle():
    wide = Image.new("L", (64, 32), 10)
    wide.paste(200, (16, 0, 48, 32))
    pixels = grey(file(wide), PixelRule(8, 8, 1, fit="crop"))
    assert (pixels[:, 1:-1] == 200).all()
    assert (pixels > 150).all()  # the filter reaches a little over the cut


def test_ink_on_paper_is_inverted_on_request_and_said_so():
    found = decode(file(Image.fromarray(RAMP)), PixelRule(8, 8, 1, invert="yes"))
    assert np.array_equal(found.pixels[:, :, 0], 255 - RAMP)
    assert found.notes == ("inverted",)


def test_shrinking_takes_every_pixel_into_account():
    checks = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert np.abs(grey(file(Image.fromarray(checks))).astype(int) - 127).max() <= 2  # a plain sample would be 0 or 255


BROKEN = {
    "empty": (b"", "empty"),
    "text": (b"not a picture at all\n", "not_an_image"),
    "cut": (file(Image.fromarray(RAMP))[:70], "truncated"),
    "cut JPEG": (file(Image.effect_noise((64, 64), 90), "JPEG")[:-400], "truncated"),
    "cut GIF": (file(Image.effect_noise((64, 64), 90), "GIF")[:-400], "truncated"),
    "checksum of the pixels": (file(Image.fromarray(RAMP)).replace(b"IDATx", b"IDATy"), "checksum"),
    "checksum at the end": (file(Image.fromarray(RAMP))[:-1] + b"!", "checksum"),
    "bomb": (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(bytes(99)))
        + chunk(b"IEND", b""),
        "too_large",
    ),
    "large": (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 10_000, 9_000, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(bytes(99)))
        + chunk(b"IEND", b""),
        "too_large",
    ),
    "stream within right checksums": (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", b"x\x9c" + bytes(30))
        + chunk(b"IEND", b""),
        "damaged",
    ),
}


@pytest.mark.parametrize("which", BROKEN)
def test_what_is_wrong_with_a_file_has_a_stable_kind(which):
    data, kind = BROKEN[which]
    with pytest.raises(ImageError) as caught:
        decode(data, RULE)
    assert caught.value.kind == kind


def test_postscript_is_not_read():
    eps = file(Image.new("L", (8, 8)), "EPS")
    with pytest.raises(ImageError) as caught:
        decode(eps, RULE)
    assert caught.value.kind == "not_an_image"


@pytest.mark.parametrize("colour", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("restarts", [0, 1])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_a_jpeg_whose_data_end_early_is_truncated_though_its_end_is_marked(colour, restarts, share):
    """Decoders put grey where data are missing, and warn nobody who asks Pillow."""
    noise = np.random.default_rng(4).integers(0, 256, (96, 96, 4), np.uint8)
    picture = Image.fromarray(noise, "CMYK").convert(colour)
    room = io.BytesIO()
    picture.save(room, "JPEG", quality=90, restart_marker_rows=restarts)
    whole = room.getvalue()
    scan = whole.index(b"\xff\xda") + 14
    cut = whole[: scan + int((len(whole) - scan) * share)].rstrip(b"\xff") + b"\xff\xd9"
    rule = PixelRule(96, 96, 3)
    decode(whole, rule)
    for data in (cut, cut + b"more"):
        with pytest.raises(ImageError) as failure:
            decode(data, rule)
        assert failure.value.kind == "truncated"


@pytest.mark.parametrize("colour", ["L", "RGB"])
@pytest.mark.parametrize("restarts", [0, 1])
def test_a_jpeg_that_ends_in_middle_grey_is_whole(colour, restarts):
    room = io.BytesIO()
    Image.new(colour, (40, 40), (128,) * len(colour)).save(room, "JPEG", restart_marker_rows=restarts)
    assert (decode(room.getvalue(), PixelRule(40, 40, 1)).pixels == 128).all()
