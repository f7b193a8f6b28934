"""A picture's metadata may be anything: it is shown all the same, upright where nothing can be made of them."""

import files
import numpy as np
import pytest
from PIL import Image

from vae_serve.errors import ImageError
from vae_serve.images import orientation
from vae_serve.images.decode import decode
from vae_serve.images.pixels import PixelRule

RULE = PixelRule(16, 16, 3)
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8))
BAD_BLOCKS = {
    "nothing": b"Exif\0\0",
    "no TIFF": b"Exif\0\0\0\x08\0\2",
    "beyond its end": b"Exif\0\0II*\0\xff\xff\xff\xff",
    "never ends": b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(30),
    "points at itself": b"Exif\0\0II*\0\x08\0\0\0\1\0\x69\x87\4\0\1\0\0\0\x08\0\0\0\x08\0\0\0",
    "orientation 9": b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\x09\0\0\0",
    "orientation of text": b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\2\0\1\0\0\0A\0\0\0",
    "noise": np.random.default_rng(1).bytes(500),
}
OPTIONS: dict[str, dict[str, object]] = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}


def with_exif(form: str, block: bytes) -> bytes:
    """A file with a block of EXIF of any bytes."""
    if form == "WEBP":
        return files.saved(IMAGE, form, **OPTIONS[form], exif=block)
    good = files.saved(IMAGE, form, **OPTIONS[form])
    return good[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + good[2:]


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
@pytest.mark.parametrize("which", BAD_BLOCKS)
def test_a_bad_exif_block_cost_nothing(form, which):
    good = files.saved(IMAGE, form, **OPTIONS[form])
    picture = decode(with_exif(form, BAD_BLOCKS[which]), RULE)
    assert np.array_equal(picture.pixels, decode(good, RULE).pixels)
    assert picture.notes == ()


def test_a_bad_exif_block_of_an_avif_cost_nothing():
    exif = Image.Exif()
    exif[0x010E] = "x" * 50
    whole = files.saved(IMAGE, "AVIF", exif=exif)
    block = exif.tobytes()[6:]
    damaged = whole.replace(block[:8], b"\0\0\0\0\xff\xff\xff\xff")
    assert damaged != whole
    assert np.array_equal(decode(damaged, RULE).pixels, decode(whole, RULE).pixels)


def test_profiles_comments_and_previews_of_a_jpeg_cost_nothing():
    good = files.saved(IMAGE, "JPEG", quality=95)
    for body in (b"ICC_PROFILE\0\1\2abc", b"ICC_PROFILE\0", b"MPF\0", b"MPF\0II*\0\xff\xff\xff\xff", b"FPXR\0"):
        segment = b"\xff\xe2" + (len(body) + 2).to_bytes(2, "big") + body
        assert np.array_equal(decode(good[:2] + segment + good[2:], RULE).pixels, decode(good, RULE).pixels)
    photoshop = b"Photoshop 3.0\0" + b"8BIM\3\xed" + b"\xff" * 9
    segment = b"\xff\xed" + (len(photoshop) + 2).to_bytes(2, "big") + photoshop
    assert np.array_equal(decode(good[:2] + segment + good[2:], RULE).pixels, decode(good, RULE).pixels)


def test_ink_stays_ink_without_the_segments_that_do_not_matter():
    ink = IMAGE.convert("CMYK")
    with_profile = files.saved(ink, "JPEG", quality=95, icc_profile=b"p" * 100_000, comment=b"c" * 60_000)
    assert np.array_equal(decode(with_profile, RULE).pixels, decode(files.saved(ink, "JPEG", quality=95), RULE).pixels)


def test_an_orientation_is_read_from_either_byte_order_and_nothing_else():
    for order, start in (("little", b"II*\0\x08\0\0\0\1\0"), ("big", b"MM\0*\0\0\0\x08\0\1")):
        number = [value.to_bytes(size, order) for value, size in ((0x0112, 2), (3, 2), (1, 4), (6, 2))]
        assert orientation.of_exif(start + b"".join(number) + bytes(2)) == 6
    for block in BAD_BLOCKS.values():
        assert orientation.of_exif(block) is None


def test_more_than_8_bits_in_a_jpeg_are_refused_by_name():
    data = files.saved(IMAGE, "JPEG")
    at = data.index(b"\xff\xc0")
    with pytest.raises(ImageError, match="its samples have 12 bits") as caught:
        decode(data[: at + 4] + b"\x0c" + data[at + 5 :], RULE)
    assert caught.value.kind == "unsupported"
