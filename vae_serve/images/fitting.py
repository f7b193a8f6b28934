"""A decoded picture to the model's size: turned, made opaque, resized, padded or cropped, inverted. What a decoder has
shrunk already (`framing.jpeg_scale`) is resized by the rest, from the same part of the picture.

A very large picture that is turned or not opaque is taken in strips, so that no second copy of it is made. A row is
resized by itself, so its pixels are those of the whole picture resized rows first and columns after. Pillow 13 has it
the other way round for some shapes; a level may differ by one there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vae_serve.images import framing, memory
from vae_serve.images.framing import FloatBox, Size
from vae_serve.images.pixels import Picture, PixelRule, invert

Box = tuple[int, int, int, int]  # left, top, right, bottom

WHOLE = 1 << 24  # pixels; a larger picture comes in strips, where a copy of it would be made
STRIP = 1 << 20  # pixels of a strip; and what of a picture of 16 bits or floats is taken at once, which takes more

_T = Image.Transpose
_TURNS = {2: _T.FLIP_LEFT_RIGHT, 3: _T.ROTATE_180, 4: _T.FLIP_TOP_BOTTOM, 5: _T.TRANSPOSE, 6: _T.ROTATE_270}
_TURNS |= {7: _T.TRANSVERSE, 8: _T.ROTATE_90}
_RIGHT_TO_LEFT, _BOTTOM_TO_TOP, _ACROSS = (2, 3, 6, 7), (3, 4, 7, 8), (5, 6, 7, 8)  # what turning does, by orientation


@dataclass(frozen=True)
class Decoded:
    """A picture as its file has it, and how any part of it becomes opaque."""

    images: tuple[Image.Image, ...]  # of one size: the picture; or the high and the low bytes of its samples
    opaque: Callable[..., Image.Image]  # from the same part of each of the images, and a mode: that mode, L or RGB
    orientation: int = 1  # as in EXIF
    notes: tuple[str, ...] = ()
    scale: int = 1  # of the images: one of their pixels is so many of the file's on each side
    file_size: Size | None = None  # where `scale` is not 1, the file's picture before it is turned

    @property
    def is_grey(self) -> bool:
        """Whether each pixel has one sample, a level of grey."""
        return self.images[0].mode in ("1", "L", "I", "F") or self.images[0].mode.startswith("I;16")

    @property
    def held(self) -> int:
        """Bytes of the pixels."""
        return sum(image.width * image.height * memory.pixel_bytes(image.mode) for image in self.images)

    @property
    def size(self) -> Size:
        """Width and height of the file's picture after turning."""
        return turned(self.file_size or self.images[0].size, self.orientation)

    @property
    def decoded_size(self) -> Size:
        """Width and height of the images after turning."""
        return turned(self.images[0].size, self.orientation)

    def decoded_box(self, box: FloatBox) -> FloatBox:
        """A box of the file's picture, after turning, in pixels of the images.

        The last column and row of these may be of fewer pixels of the file than the others; turning can bring them
        to the front.
        """
        scale = self.scale
        if scale == 1:
            return box
        spare = [few - many / scale for few, many in zip(self.decoded_size, self.size, strict=True)]
        x = spare[0] if self.orientation in _RIGHT_TO_LEFT else 0.0
        y = spare[1] if self.orientation in _BOTTOM_TO_TOP else 0.0
        left, top, right, bottom = box
        return left / scale + x, top / scale + y, right / scale + x, bottom / scale + y

    def part(self, box: Box, mode: str) -> Image.Image:
        """An opaque part of the picture before it is turned."""
        whole = (0, 0, *self.images[0].size)
        return self.opaque(*(self.images if box == whole else [image.crop(box) for image in self.images]), mode)

    @property
    def in_strips(self) -> bool:
        """Whether copies of the whole are to be avoided."""
        image = self.images[0]
        if image.mode in ("L", "RGB") and self.orientation == 1 and "transparency" not in image.info:
            return False
        deep = len(self.images) > 1 or image.mode[0] in "IF"
        return image.width * image.height > (STRIP if deep else WHOLE)

    def strips(self, mode: str) -> Iterator[Image.Image]:
        """The turned picture from top to bottom, each strip as wide as it is."""
        turn = _TURNS.get(self.orientation)
        width, height = self.decoded_size
        across = max(1, STRIP // width) if self.in_strips else height
        for top in range(0, height, across):
            bottom = min(top + across, height)
            first, last = (height - bottom, height - top) if self.orientation in _BOTTOM_TO_TOP else (top, bottom)
            strip = self.part((first, 0, last, width) if self.orientation in _ACROSS else (0, first, width, last), mode)
            yield strip.transpose(turn) if turn is not None else strip


def turned(size: Size, orientation: int) -> Size:
    """Width and height after turning."""
    return (size[1], size[0]) if orientation in _ACROSS else size


def fit(decoded: Decoded, rule: PixelRule) -> Picture:
    """A picture as the model wants it.

    Raises:
        ImageError: with kind `too_large`, where resizing it would take too much memory.
    """
    mode = "L" if rule.channels == 1 or decoded.is_grey else "RGB"
    width, height = decoded.size
    size = (rule.width, rule.height)
    if (width, height) == size or rule.fit == "stretch":
        sized = _resized(decoded, mode, size, (0, 0, width, height))
    elif rule.fit == "crop":
        sized = _resized(decoded, mode, size, framing.middle((width, height), size))
    else:
        sized = _padded(decoded, mode, size)
    levels = np.asarray(sized)
    if mode == "L":  # the same levels in each channel, as if it had been made RGB before
        levels = np.broadcast_to(levels[..., np.newaxis], rule.shape)
    pixels, inverted = invert(levels.reshape(1, *rule.shape), rule.invert)
    notes = (*decoded.notes, *(("turned",) if decoded.orientation > 1 else ()), *(("inverted",) if inverted else ()))
    return Picture(pixels[0], (width, height), notes)


def _resized(decoded: Decoded, mode: str, size: Size, box: FloatBox) -> Image.Image:
    """The part of a picture within `box`, resized to `size`."""
    width, height = decoded.decoded_size
    strips = decoded.strips(mode)
    left, top, right, bottom = box = decoded.decoded_box(box)
    if width * height > STRIP:
        memory.check(size[0], height, memory.pixel_bytes(mode), decoded.held)
    if not decoded.in_strips:
        return next(strips).resize(size, Image.Resampling.BILINEAR, box)
    narrow = Image.new(mode, (size[0], height))
    at = 0
    for strip in strips:
        narrow.paste(
            strip.resize((size[0], strip.height), Image.Resampling.BILINEAR, (left, 0, right, strip.height)), (0, at)
        )
        at += strip.height
    return narrow.resize(size, Image.Resampling.BILINEAR, (0, top, size[0], bottom))


def _padded(decoded: Decoded, mode: str, size: Size) -> Image.Image:
    """All of a picture in the middle of a sheet in the median colour of its border."""
    width, height = decoded.size
    inner = framing.inner((width, height), size)
    sheet = Image.new(mode, size, _ground(decoded, mode))
    picture = _resized(decoded, mode, inner, (0, 0, width, height))
    sheet.paste(picture, ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2))
    return sheet


def _ground(decoded: Decoded, mode: str) -> tuple[int, ...]:
    width, height = decoded.images[0].size
    sides = ((0, 0, width, 1), (0, height - 1, width, height), (0, 0, 1, height), (width - 1, 0, width, height))
    channels = 1 if mode == "L" else 3
    pixels = [np.asarray(decoded.part(side, mode)).reshape(-1, channels) for side in sides]
    return tuple(int(level) for level in np.median(np.concatenate(pixels), axis=0))
