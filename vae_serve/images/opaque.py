"""Parts of a picture, in any of Pillow's modes, to 8 bits of grey or RGB without transparency. Pure.

Each function here returns one that takes a part of the picture (or the high and the low bytes of its samples) and the
mode wanted, L or RGB. A sample v of n bits becomes round(v * 255 / (2^n - 1)), whatever kind of picture it is in.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from vae_serve.errors import ImageError

Flatten = Callable[..., Image.Image]
Bytes = npt.NDArray[np.uint8]

_SOLID = {"1", "L", "RGB", "RGBX", "CMYK", "YCbCr"}
_LAYERED = {"LA", "RGBA", "PA"}


def to_bytes(levels: npt.NDArray[Any], most: int) -> Bytes:
    """Integers 0 to `most`, at most 16 bits, to 0 to 255, rounded."""
    return ((levels.astype(np.uint32) * 255 + most // 2) // most).astype(np.uint8)


def plain(image: Image.Image, mode: str) -> Image.Image:
    """For pictures that have no transparency."""
    return image if image.mode == mode else image.convert(mode)


def any_mode(background: int) -> Flatten:
    """For 8 bits a sample: grey, colour, a palette, ink, with transparency or without."""

    def flatten(image: Image.Image, mode: str) -> Image.Image:
        if image.mode in ("La", "RGBa"):
            image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
        if image.mode in _LAYERED or (image.mode in (*_SOLID, "P") and image.has_transparency_data):
            return _over(image.convert("RGBA"), background).convert(mode)
        if image.mode == "P":
            return image.convert("RGB").convert(mode)
        if image.mode in _SOLID:
            return plain(image, mode)
        raise ImageError("unsupported", f"pictures of the mode {image.mode} are not read")

    return flatten


def keyed(key: tuple[int, ...], background: int) -> Flatten:
    """For 8 bits a sample, of which one grey level or colour is transparent."""

    def flatten(image: Image.Image, mode: str) -> Image.Image:
        levels = np.array(image.convert("L") if len(key) == 1 else image)
        levels[_is(levels, key)] = background
        return plain(Image.fromarray(levels), mode)

    return flatten


def deep_grey(most: int, white_is_zero: bool, key: int | None, background: int) -> Flatten:
    """For one integer a pixel, 0 to `most`, of which one level may be transparent."""

    def flatten(image: Image.Image, mode: str) -> Image.Image:
        deep = np.asarray(image)
        if deep.min() < 0 or deep.max() > most:
            raise ImageError(
                "range", f"its integers reach from {deep.min()} to {deep.max()}; 0 to {most} has a meaning"
            )
        grey = to_bytes(most - deep.astype(np.uint32) if white_is_zero else deep, most)
        if key is not None:
            grey[deep == key] = background
        return plain(Image.fromarray(grey), mode)

    return flatten


def floats(white_is_zero: bool) -> Flatten:
    """For one float a pixel, 0 to 1."""

    def flatten(image: Image.Image, mode: str) -> Image.Image:
        levels = np.asarray(image)
        if not np.isfinite(levels).all() or levels.min() < 0 or levels.max() > 1:
            raise ImageError("range", f"its floats reach from {levels.min()} to {levels.max()}; 0 to 1 has a meaning")
        levels = np.float32(1) - levels if white_is_zero else levels
        return plain(Image.fromarray(np.rint(levels * np.float32(255)).astype(np.uint8)), mode)

    return flatten


def deep_colour(key: tuple[int, ...] | None, background: int) -> Flatten:
    """For 16 bits a sample, given as two pictures of bytes: RGB, RGBA or CMYK. One colour may be transparent."""

    def flatten(high: Image.Image, low: Image.Image, mode: str) -> Image.Image:
        deep = np.asarray(high).astype(np.uint32) << 8 | np.asarray(low)
        levels = to_bytes(deep, 0xFFFF)
        if key is not None:
            levels[_is(deep, key)] = background
        return any_mode(background)(Image.frombytes(high.mode, high.size, levels.tobytes()), mode)

    return flatten


def deep_grey_alpha(background: int) -> Flatten:
    """For grey and alpha of 16 bits each, given as the four bytes of a pixel."""

    def flatten(image: Image.Image, mode: str) -> Image.Image:
        pairs = np.asarray(image).astype(np.uint32)  # (h, w, 4)
        levels = to_bytes(pairs[..., 0::2] << 8 | pairs[..., 1::2], 0xFFFF)
        return any_mode(background)(Image.fromarray(levels), mode)

    return flatten


def _is(levels: npt.NDArray[Any], key: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Where a pixel (h, w) or (h, w, 3) is the level or the colour."""
    samples = levels.reshape(*levels.shape[:2], -1)
    same = np.ones(samples.shape[:2], bool)
    for channel, level in enumerate(key):
        same &= samples[..., channel] == level
    return same


def _over(image: Image.Image, background: int) -> Image.Image:
    """A picture of mode RGBA over one grey level: RGB."""
    ground = Image.new("RGBA", image.size, (background, background, background, 255))
    return Image.alpha_composite(ground, image).convert("RGB")
