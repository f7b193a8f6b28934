"""PNG files of every depth and colour type to the samples that the format says, whatever their metadata are."""

import zlib

import files
import numpy as np
import pytest
from files import chunk
from PIL import Image

from vae_serve.errors import ImageError
from vae_serve.images import png_file
from vae_serve.images.decode import Decoder, decode
from vae_serve.images.pixels import PixelRule

SIDE = 16
RGB = PixelRule(SIDE, SIDE, 3)
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
KINDS = [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2), (8, 4), (16, 4), (8, 6), (16, 6)]


def samples(bits: int, channels: int) -> np.ndarray:
    return np.random.default_rng(bits).integers(0, 1 << bits, (SIDE, SIDE, channels)).astype(np.int64)


def levels(deep: np.ndarray, bits: int) -> np.ndarray:
    """The rule: round(v * 255 / (2^bits - 1))."""
    return np.rint(deep * 255 / ((1 << bits) - 1))


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return (colour * alpha + 255 * (255 - alpha)) / 255


@pytest.mark.parametrize(("bits", "colour"), KINDS)
def test_each_depth_and_colour_type_is_scaled_by_one_rule(bits, colour):
    deep = samples(bits, CHANNELS[colour])
    eight = levels(deep, bits)
    if colour in (4, 6):
        eight = over_white(eight[..., :-1], eight[..., -1:])
    pixels = decode(files.png(deep, bits, colour), RGB).pixels
    # 1: Pillow composites in integers
    assert np.abs(pixels - np.broadcast_to(eight, (SIDE, SIDE, 3))).max() <= (1 if colour in (4, 6) else 0)


@pytest.mark.parametrize(("bits", "colour"), [kind for kind in KINDS if kind[1] in (0, 2)])
def test_the_transparent_level_or_colour_is_background(bits, colour):
    deep = samples(bits, CHANNELS[colour])
    key = deep[3, 5]
    if colour == 2:
        deep[0, 0] = key ^ [0, 0, 1]  # nearly the same colour is opaque
    trns = chunk(b"tRNS", key.astype(">u2").tobytes())
    expected = np.broadcast_to(levels(deep, bits), (SIDE, SIDE, 3)).copy()
    expected[(deep == key).all(axis=-1)] = 200
    pixels = decode(files.png(deep, bits, colour, trns), PixelRule(SIDE, SIDE, 3, background=200)).pixels
    assert np.array_equal(pixels, expected)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_is_looked_up_and_its_alpha_composited(bits):
    deep = samples(bits, 1)
    palette = np.random.default_rng(9).integers(0, 256, (1 << bits, 3)).astype(np.uint8)
    alpha = np.random.default_rng(8).integers(0, 256, 1 << bits).astype(np.uint8)
    data = files.png(deep, bits, 3, chunk(b"PLTE", palette.tobytes()), chunk(b"tRNS", alpha.tobytes()))
    expected = over_white(palette[deep[..., 0]].astype(float), alpha[deep].astype(float))
    assert np.abs(decode(data, RGB).pixels - expected).max() <= 1


def test_the_same_samples_as_grey_and_as_colour_of_16_bits_are_the_same_pixels():
    deep = samples(16, 1)
    grey, colour = files.png(deep, 16, 0), files.png(np.repeat(deep, 3, axis=2), 16, 2)
    assert np.array_equal(decode(grey, RGB).pixels, decode(colour, RGB).pixels)


GOOD = files.png(samples(8, 1), 8, 0)
METADATA = {
    "EXIF that is not a TIFF": chunk(b"eXIf", b"\0\x08\0\2"),
    "EXIF that points beyond its end": chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"),
    "EXIF whose directory never ends": chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + bytes(12)),
    "orientation 9": chunk(b"eXIf", b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\x09\0\0\0"),
    "text of 1 MiB unpacked": chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 20 | 1))),
    "international text of 2 MiB": chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(bytes(1 << 21))),
    "text packed in an unknown way": chunk(b"zTXt", b"k\0\7abc"),
    "70 MiB of text": b"".join(chunk(b"tEXt", b"k%d\0" % number + bytes(1 << 20)) for number in range(70)),
    "a profile of 2 MiB": chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(1 << 21))),
    "a profile that is not packed": chunk(b"iCCP", b"p\0\1abc"),
    "EXIF as text that is not hexadecimal": chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 4\nzzzz"),
    "short chunks": b"".join(chunk(name, b"") for name in (b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"iCCP", b"zTXt")),
    "a wrong checksum of a text": chunk(b"tEXt", b"k\0abc")[:-1] + b"!",
    "animation that is none": chunk(b"acTL", b"") + chunk(b"fcTL", b"abc"),
}


@pytest.mark.parametrize("which", METADATA)
def test_no_metadata_cost_a_good_picture(which):
    data = GOOD[:33] + METADATA[which] + GOOD[33:]
    assert np.array_equal(decode(data, RGB).pixels, decode(GOOD, RGB).pixels)


@pytest.mark.parametrize("how", ["eXIf", "text", "XMP"])
def test_the_orientation_is_found_wherever_writers_put_it(how):
    block = b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\3\0\0\0" + bytes(4)
    metadata = {
        "eXIf": chunk(b"eXIf", block),
        "text": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 26\n" + block.hex().encode())),
        "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation='' tiff:Orientation=\"3\"/>"),
    }[how]
    turned = decode(GOOD[:33] + metadata + GOOD[33:], RGB)
    assert np.array_equal(turned.pixels, decode(GOOD, RGB).pixels[::-1, ::-1])
    assert turned.notes == ("turned",)


FRAMES = [Image.fromarray(samples(8, 1)[..., 0].astype(np.uint8) // (1 + number)) for number in range(3)]


@pytest.mark.parametrize("default", [False, True])
def test_of_an_animation_the_first_picture_in_the_file_is_taken(default):
    data = files.saved(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:], default_image=default)
    picture = decode(data, RGB)
    assert np.array_equal(picture.pixels[..., 0], np.asarray(FRAMES[0]))
    assert picture.notes == ("animated",)


BROKEN = {
    "an unknown critical chunk": (GOOD[:33] + chunk(b"CgBI", bytes(4)) + GOOD[33:], "unsupported"),
    "no pixels": (GOOD[:33] + chunk(b"IEND", b""), "damaged"),
    "no palette": (files.png(samples(8, 1), 8, 3), "damaged"),
    "two headers": (GOOD[:33] + GOOD[8:], "damaged"),
    "a depth of 3 bits": (files.png(samples(2, 1), 3, 0), "damaged"),
    "a short tRNS": (files.png(samples(8, 3), 8, 2, chunk(b"tRNS", b"\0\1")), "damaged"),
    "a wrong checksum of tRNS": (GOOD[:33] + chunk(b"tRNS", b"\0\1")[:-1] + b"!" + GOOD[33:], "checksum"),
}


@pytest.mark.parametrize("which", BROKEN)
def test_what_cannot_be_read_rightly_is_refused_by_its_kind(which):
    data, kind = BROKEN[which]
    with pytest.raises(ImageError) as caught:
        decode(data, RGB)
    assert caught.value.kind == kind


@pytest.mark.parametrize("rule", [RGB, PixelRule(SIDE, SIDE, 1), PixelRule(28, 28, 1)])
@pytest.mark.parametrize("colour", [0, 2])
def test_a_png_cut_at_any_byte_is_refused(rule, colour):
    decoder = Decoder(rule)
    whole = files.png(samples(8, CHANNELS[colour]), 8, colour)
    for length in range(len(whole)):
        assert decoder.as_it_is(whole[:length]) is None
        with pytest.raises(ImageError) as caught:
            decoder(whole[:length])
        assert caught.value.kind == ("empty" if not length else "not_an_image" if length < 8 else "truncated")


def test_only_what_pixels_need_is_handed_on():
    data = GOOD[:33] + METADATA["70 MiB of text"] + GOOD[33:]
    assert png_file.read(data).data == GOOD


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("bits", "colour"), KINDS)
def test_a_png_whose_pixels_end_early_is_refused(bits, colour, interlaced):
    """With every check sum right: Pillow leaves the rows that are missing black."""
    palette = chunk(b"PLTE", bytes(3 * min(256, 1 << bits)))
    whole = files.png(samples(bits, CHANNELS[colour]), bits, colour, *([palette] if colour == 3 else []))
    at = whole.index(b"IDAT") - 4
    raw = zlib.decompress(whole[at + 8 : at + 8 + int.from_bytes(whole[at : at + 4], "big")])
    header = bytearray(whole[16:29])
    header[12] = interlaced
    start = whole[:8] + chunk(b"IHDR", bytes(header)) + whole[33:at]
    for missing in (1, len(raw) // 2):
        data = start + chunk(b"IDAT", zlib.compress(raw[:-missing])) + chunk(b"IEND", b"")
        with pytest.raises(ImageError) as failure:
            decode(data, RGB)
        assert failure.value.kind in ("truncated", "damaged")  # the rows of an interlaced one are others'


def test_a_png_whose_last_row_is_black_is_whole():
    grey = samples(8, 1)
    grey[-1] = 0
    assert np.array_equal(decode(files.png(grey, 8, 0), RGB).pixels[..., 0], grey[..., 0])
