"""Which part of a picture becomes the model's image, at which size, and how far a decoder shrinks it before. Pure."""

from vae_serve.images.pixels import PixelRule

FloatBox = tuple[float, float, float, float]  # left, top, right, bottom
Size = tuple[int, int]  # width, height

SCALES = (8, 4, 2)  # a JPEG is decoded at 1/8, 1/4 or 1/2: the fast ones of libjpeg, and those that Pillow asks it for


def middle(picture: Size, size: Size) -> FloatBox:
    """The largest part in the middle of a picture that has the shape of `size`."""
    width, height = picture
    ratio = size[0] / size[1]
    wide, high = float(width), float(height)
    if width / height > ratio:
        wide = ratio * height
    elif width / height < ratio:
        high = width / ratio
    left, top = (width - wide) * 0.5, (height - high) * 0.5
    return left, top, left + wide, top + high


def inner(picture: Size, size: Size) -> Size:
    """The size of all of a picture within `size`. No side becomes less than 1."""
    width, height = picture
    if width / height > size[0] / size[1]:
        return size[0], max(1, round(height / width * size[0]))
    if width / height < size[0] / size[1]:
        return max(1, round(width / height * size[1])), size[1]
    return size


def jpeg_scale(picture: Size, rule: PixelRule) -> int:
    """By how much a JPEG of this size, after turning, shrinks while it is decoded: 1, 2, 4 or 8.

    The most that leaves the part which is resized at least as large as the model's image wants it, on both sides.
    """
    size, part = (rule.width, rule.height), (float(picture[0]), float(picture[1]))
    if rule.decode == "whole" or picture == size or 0 in picture:
        return 1
    if rule.fit == "crop":
        left, top, right, bottom = middle(picture, size)
        part = (right - left, bottom - top)
    elif rule.fit == "pad":
        size = inner(picture, size)
    return next((scale for scale in SCALES if part[0] >= scale * size[0] and part[1] >= scale * size[1]), 1)
