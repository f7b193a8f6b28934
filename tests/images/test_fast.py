"""The quick way gives the pixels of the long one, or leaves the file to it: for whole files and for damaged ones."""

import io
import itertools
import random

import numpy as np
import pytest
from PIL import Image

from vae_serve.errors import ImageError
from vae_serve.images import fast, pillow, png
from vae_serve.images.decode import decode
from vae_serve.images.pixels import PixelRule


@pytest.fixture(params=["imagecodecs", "Pillow"], autouse=True)
def decoder(request, monkeypatch) -> None:
    """The quick way with and without the extra `fast`."""
    if request.param == "Pillow":
        monkeypatch.setattr(fast, "_decode_png", fast._by_pillow)
        monkeypatch.setattr(fast, "_decode_jpeg", fast._by_pillow)
    elif not fast.AVAILABLE:
        pytest.skip("the extra 'fast' is not installed")


def noise(width: int, height: int, mode: str) -> Image.Image:
    shape = (height, width) if mode == "L" else (height, width, 3)
    levels = np.random.default_rng(width).integers(0, 256, shape).astype(np.uint8)
    # smooth and rough parts, so that every PNG filter and every JPEG frequency occurs
    return Image.fromarray(levels).resize((max(width // 3, 1), max(height // 2, 1))).resize((width, height))


def file(image: Image.Image, form: str, **options: object) -> bytes:
    room = io.BytesIO()
    image.save(room, form, **options)
    return room.getvalue()


WHOLE = PixelRule(28, 28, 1)
SIZES = [(1, 1), (28, 28), (33, 17), (300, 5), (64, 200)]


def test_every_digit_is_decoded_the_quick_way_to_pillows_pixels(digits):
    header = fast.png_header(28, 28, 1)
    for digit in digits[:500]:
        for data in (file(Image.fromarray(digit[:, :, 0]), "PNG"), png.encode(digit)):
            assert np.array_equal(fast.exact_png(data, header), digit[:, :, 0])


@pytest.mark.parametrize(("size", "mode"), list(itertools.product(SIZES, ["L", "RGB"])))
@pytest.mark.parametrize("level", [0, 1, 9])
def test_png_files_give_pillows_pixels(size: tuple[int, int], mode, level):
    image = noise(*size, mode)
    assert np.array_equal(fast.decode(file(image, "PNG", compress_level=level), WHOLE), np.asarray(image))


@pytest.mark.parametrize(("size", "mode"), list(itertools.product(SIZES, ["L", "RGB"])))
@pytest.mark.parametrize(("quality", "subsampling"), list(itertools.product([20, 75, 100], [0, 1, 2])))
def test_jpeg_files_give_pillows_pixels(size: tuple[int, int], mode, quality, subsampling):
    data = file(noise(*size, mode), "JPEG", quality=quality, subsampling=subsampling)
    with Image.open(io.BytesIO(data)) as opened:
        assert np.array_equal(fast.decode(data, WHOLE), np.asarray(opened))


NOT_PLAIN = {
    "palette": file(noise(28, 28, "L").convert("P"), "PNG"),
    "16 bits": file(Image.fromarray(np.zeros((28, 28), np.uint16)), "PNG"),
    "1 bit": file(noise(28, 28, "L").convert("1"), "PNG"),
    "alpha": file(noise(28, 28, "L").convert("LA"), "PNG"),
    "transparent level": file(noise(28, 28, "L"), "PNG", transparency=0),
    "text": file(noise(28, 28, "L"), "PNG", exif=Image.Exif()) + b"more",
    "progressive": file(noise(28, 28, "L"), "JPEG", progressive=True),
    "CMYK": file(noise(28, 28, "L").convert("CMYK"), "JPEG"),
    "WebP": file(noise(28, 28, "L"), "WEBP"),
}


@pytest.mark.parametrize("which", NOT_PLAIN)
def test_a_file_that_could_be_taken_another_way_is_left_to_pillow(which):
    assert fast.decode(NOT_PLAIN[which], WHOLE) is None


def test_exif_is_left_to_pillow():
    exif = Image.Exif()
    exif[0x0112] = 3
    for form in ("PNG", "JPEG"):
        assert fast.decode(file(noise(28, 28, "L"), form, exif=exif), WHOLE) is None


def outcome(decoding, data: bytes, rule: PixelRule) -> object:
    try:
        return decoding(data, rule).pixels.tobytes()
    except ImageError as error:
        return error.kind


@pytest.mark.parametrize(("form", "mode"), list(itertools.product(["PNG", "JPEG"], ["L", "RGB"])))
def test_a_damaged_file_ends_as_it_does_with_pillow_alone(form, mode):
    whole = file(noise(31, 23, mode), form)
    rule = PixelRule(23, 31, 1 if mode == "L" else 3)
    chance = random.Random(form + mode)
    for _ in range(600):
        data = bytearray(whole)
        match chance.randrange(3):
            case 0:
                data[chance.randrange(len(data))] = chance.randrange(256)
            case 1:
                del data[chance.randrange(len(data)) :]
            case 2:
                start = chance.randrange(len(data))
                del data[start : start + chance.randrange(40)]
        assert outcome(decode, bytes(data), rule) == outcome(pillow.decode, bytes(data), rule)
