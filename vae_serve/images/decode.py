"""The bytes of one picture file to the model's pixels, by a `PixelRule`. Training and serving use the same.

Plain files are decoded by `fast`, others by `pillow`; the pixels are the same either way.
"""

import importlib

from vae_serve.images import fast
from vae_serve.images.pixels import Bytes, Picture, PixelRule

if not fast.AVAILABLE:  # every picture needs it: load it before processes are forked, not in each of them
    importlib.import_module("vae_serve.images.pillow")


class Decoder:
    """Decodes pictures by one rule."""

    def __init__(self, rule: PixelRule) -> None:
        self.rule = rule
        self._header = fast.png_header(rule.width, rule.height, rule.channels)
        self._quick = rule.invert == "no"

    def as_it_is(self, data: bytes) -> Bytes | None:
        """The pixels, (H, W) or (H, W, 3), of a file that needs nothing but decoding; None for any other."""
        return fast.exact_png(data, self._header) if self._quick else None

    def prepare(self) -> None:
        """Loads what any but the plainest picture needs, so that no picture's time is spent on it."""
        importlib.import_module("vae_serve.images.pillow")

    def __call__(self, data: bytes) -> Picture:
        """The first frame of an encoded picture, as the model wants it.

        Raises:
            ImageError: with kind `empty`, `not_an_image`, `truncated`, `checksum`, `damaged`, `unsupported`,
                `too_large` or `range`. Nothing else is raised, whatever a file holds.
        """
        from vae_serve.images import pillow

        pixels = fast.decode(data, self.rule)
        return pillow.decode(data, self.rule) if pixels is None else pillow.from_pixels(pixels, self.rule)


def decode(data: bytes, rule: PixelRule) -> Picture:
    """One picture by a rule; raises as `Decoder` does."""
    return Decoder(rule)(data)
