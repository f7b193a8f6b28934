"""How much memory decoding a picture may take, estimated before anything is decoded. Pure."""

from vae_serve.errors import ImageError
from vae_serve.images.pixels import PIXEL_LIMIT

LIMIT = 640 << 20  # bytes for one picture: its file, what its decoder keeps, and its pixels before they are fitted

_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}  # of a pixel in Pillow; others take 4


_pixels = PIXEL_LIMIT


def limit_pixels(most: int) -> None:
    """Lowers the pixels that a picture may declare, for this process: one that serves strangers."""
    global _pixels  # noqa: PLW0603
    _pixels = min(most, PIXEL_LIMIT)


def pixel_limit() -> int:
    """How many pixels a picture may declare in this process."""
    return _pixels


def pixel_bytes(mode: str) -> int:
    """What Pillow keeps for a pixel of a mode."""
    return _BYTES.get(mode, 4)


def check(width: int, height: int, bytes_per_pixel: float, other: int) -> None:
    """Refuses a picture that would take too much, `other` bytes included.

    Raises:
        ImageError: with kind `too_large`.
    """
    pixels = width * height
    if pixels > _pixels:
        raise ImageError("too_large", f"it declares {width:,} x {height:,} pixels; the limit is {_pixels:,}")
    needed = int(pixels * bytes_per_pixel) + other
    if needed > LIMIT:
        raise ImageError(
            "too_large",
            f"its {width:,} x {height:,} pixels take {needed >> 20:,} MiB to decode; the limit is {LIMIT >> 20:,}",
        )
