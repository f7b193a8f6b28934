"""PNG files of many pictures. What takes their time is zlib; the extra `fast` has a faster one.

zlib-ng packs a digit in a quarter of the time of zlib at level 3, into 3 % more bytes (docs/design/writers.md). Its
level 1 gives the same bytes whichever instructions a processor has: tests/images/test_png.py tries it on emulated ones.
Another version may give others, so a job's plan names what it is written with.
"""

import zlib

import numpy as np
import numpy.typing as npt

from vae_serve.images import png

NG_LEVEL = 1  # the higher ones take as long as zlib


def _by_zlib(lines: bytes) -> bytes:
    return zlib.compress(lines, png.LEVEL)


def _by_zlib_ng(lines: bytes) -> bytes:
    return bytes(zlibng_encode(lines, NG_LEVEL))  # of bytes, no copy


try:
    from imagecodecs import zlibng_encode, zlibng_version
except ImportError:  # the extra `fast` is not installed
    COMPRESSOR, _compress = f"zlib, level {png.LEVEL}", _by_zlib
else:
    COMPRESSOR, _compress = f"{zlibng_version()}, level {NG_LEVEL}", _by_zlib_ng


def encode(pictures: npt.NDArray[np.uint8]) -> list[bytes]:
    """The files of pictures (n, H, W, C), uint8 with 1 to 4 channels, by `COMPRESSOR`."""
    return list(png.files(pictures, _compress))
