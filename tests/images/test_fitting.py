"""Turning, padding, cropping and resizing give Pillow's pixels of the whole picture, for every shape and size."""

import itertools

import files
import numpy as np
import pytest
from PIL import Image, ImageOps

from vae_serve.images import fitting
from vae_serve.images.decode import decode
from vae_serve.images.pixels import PixelRule

BILINEAR = Image.Resampling.BILINEAR
SIZE = (28, 20)  # width, height


def noise(width: int, height: int) -> Image.Image:
    chance = np.random.default_rng(width)
    return Image.fromarray(chance.integers(0, 256, (height, width, 3)).astype(np.uint8))


@pytest.mark.parametrize("length", [29, 56, 57, 100, 5000, 65_000])
@pytest.mark.parametrize("upright", [True, False])
def test_a_very_thin_picture_is_padded_to_a_line_of_at_least_one_pixel(length, upright):
    line = np.zeros((length, 1), np.uint8)
    line[length // 3 : length // 2] = 255
    image = Image.fromarray(line if upright else line.T)
    short = max(1, round(28 / length))
    expected = np.zeros((28, 28), np.uint8)  # the border's median is that of the line
    start = (28 - short) // 2
    if upright:
        expected[:, start : start + short] = np.asarray(image.resize((short, 28), BILINEAR))
    else:
        expected[start : start + short] = np.asarray(image.resize((28, short), BILINEAR))
    pixels = decode(files.saved(image, "PNG"), PixelRule(28, 28, 1, fit="pad")).pixels[..., 0]
    assert np.array_equal(pixels, expected)


@pytest.mark.parametrize(("width", "height"), [(1, 100), (100, 1), (1, 65_000), (65_000, 1), (3, 200), (1, 1)])
def test_a_very_thin_picture_is_stretched_and_cropped_as_any_other(width, height):
    image = noise(width, height)
    data = files.saved(image, "PNG")
    stretched = np.asarray(image.resize(SIZE, BILINEAR))
    assert np.array_equal(decode(data, PixelRule(20, 28, 3)).pixels, stretched)
    cropped = np.asarray(ImageOps.fit(image, SIZE, BILINEAR))
    assert np.array_equal(decode(data, PixelRule(20, 28, 3, fit="crop")).pixels, cropped)


def test_turned_the_pixels_are_those_of_the_whole_picture_turned_first():
    image = noise(1500, 1100)
    for orientation, fit, channels in itertools.product(range(1, 9), ("stretch", "crop", "pad"), (1, 3)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture = (
            decode(files.saved(image, "BMP"), PixelRule(*SIZE[::-1], channels, fit=fit))
            if orientation == 1
            else (
                decode(
                    files.saved(image, "PNG", exif=exif, compress_level=0), PixelRule(*SIZE[::-1], channels, fit=fit)
                )
            )
        )
        whole = Image.Image.copy(image)
        whole.getexif()[0x0112] = orientation
        whole = ImageOps.exif_transpose(whole).convert("L" if channels == 1 else "RGB")
        if fit == "stretch":
            expected = whole.resize(SIZE, BILINEAR)
        elif fit == "crop":
            expected = ImageOps.fit(whole, SIZE, BILINEAR)
        else:
            array = np.atleast_3d(np.asarray(whole))
            sides = np.concatenate([array[0], array[-1], array[:, 0], array[:, -1]])
            ground = tuple(int(level) for level in np.median(sides, axis=0))
            expected = Image.new(whole.mode, SIZE, ground)
            inner = ImageOps.contain(whole, SIZE, BILINEAR)
            expected.paste(inner, ((SIZE[0] - inner.width) // 2, (SIZE[1] - inner.height) // 2))
        assert np.array_equal(picture.pixels, np.atleast_3d(np.asarray(expected))), (orientation, fit, channels)
        assert picture.size == whole.size


def in_two_steps(image: Image.Image, box: tuple[float, float, float, float]) -> np.ndarray:
    """Rows first, columns after, whatever the shape."""
    narrow = image.resize((SIZE[0], image.height), BILINEAR, (box[0], 0, box[2], image.height))
    return np.asarray(narrow.resize(SIZE, BILINEAR, (0, box[1], SIZE[0], box[3])))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["transparent", "16 bits"])
def test_in_strips_the_pixels_are_those_of_the_whole_resized_rows_first(orientation, kind, monkeypatch):
    if kind == "transparent":
        data = files.saved(noise(90, 70).convert("RGBA").rotate(30), "PNG")
    else:
        deep = np.random.default_rng(1).integers(0, 65536, (70, 90, 3))
        data = files.png(deep, 16, 2, files.chunk(b"tRNS", deep[1, 2].astype(">u2").tobytes()))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = data[:33] + files.chunk(b"eXIf", exif.tobytes()[6:]) + data[33:]
    turned = (90, 70) if orientation < 5 else (70, 90)
    whole = Image.fromarray(decode(data, PixelRule(turned[1], turned[0], 3)).pixels)
    monkeypatch.setattr(fitting, "WHOLE", 600)
    monkeypatch.setattr(fitting, "STRIP", 600)
    assert np.array_equal(decode(data, PixelRule(turned[1], turned[0], 3)).pixels, np.asarray(whole))
    stretched = decode(data, PixelRule(*SIZE[::-1], 3)).pixels
    assert np.array_equal(stretched, in_two_steps(whole, (0, 0, *turned)))
