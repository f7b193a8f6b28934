"""The fast path for plain pictures: 8-bit grey and RGB PNG and JPEG files that decoders cannot read in different ways.
For those, imagecodecs (libspng, libjpeg-turbo) gives the same bytes as Pillow in a fraction of the time;
tests/images/test_fast.py compares them. If it is not installed, Pillow decodes them without the steps that only other
pictures need. Everything else, and whatever fails here, goes through `pillow`.

Chosen by measurement, a 28 x 28 PNG file on one core: Pillow 34 us, OpenCV 8.3, imagecodecs 6.8, pyspng 6.2. pyspng
reads no JPEG; OpenCV fills the rest of truncated ones without an error.
"""

import io
import re
from collections.abc import Callable
from zlib import crc32

import numpy as np

from vae_serve.images import framing, memory, png_file
from vae_serve.images.pixels import Bytes, PixelRule


def _by_pillow(data: bytes) -> Bytes:
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(data), formats=("PNG", "JPEG")))
    if data.startswith(png_file.SIGNATURE) and not pixels[-1].any() and not png_file.has_all_pixels(data):
        raise ValueError("its pixels end before its last row")
    return pixels


_decode_png: Callable[[bytes], Bytes]
_decode_jpeg: Callable[[bytes], Bytes]
try:
    from imagecodecs import jpeg8_decode as _decode_jpeg
    from imagecodecs import spng_decode as _decode_png

    AVAILABLE = True
except ImportError:  # the extra `fast` is not installed
    _decode_png = _decode_jpeg = _by_pillow
    AVAILABLE = False

_PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_PNG_LEAST = 41  # bytes up to the first one of the pixels; `stop` is where the last one's checksum begins
_PNG_KINDS = {1: b"\x08\0\0\0\0", 3: b"\x08\2\0\0\0"}  # 8 bits grey, RGB; deflate, adaptive filters, no interlace
_PNG_PLAIN = {b"IDAT", b"pHYs", b"tIME", b"gAMA", b"sRGB", b"cHRM"}  # Pillow's pixels heed no other
_MOST = 1 << 24  # pixels; beyond, the copy that Pillow makes of an array costs more memory than the decoder saves time
_JPEG_START = b"\xff\xd8\xff\xe0"  # JFIF: one component is grey, three are YCbCr
_JPEG_PLAIN = {0xC4, 0xDB, 0xDD, 0xE0, 0xFE}  # tables, restart interval, JFIF, comment
_JPEG_BASELINE, _JPEG_SCAN = 0xC0, 0xDA
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]")  # within a scan, only stuffed zeros and restarts follow a 0xFF


def png_header(width: int, height: int, channels: int) -> bytes:
    """How a plain PNG file of this size begins: all before the length of its second chunk."""
    header = _PNG_START + width.to_bytes(4, "big") + height.to_bytes(4, "big") + _PNG_KINDS[channels]
    return header + crc32(header[12:]).to_bytes(4, "big")


def exact_png(data: bytes, header: bytes) -> Bytes | None:
    """The pixels of a PNG of one size and kind (`header`) that holds nothing else; None for any other file.

    What `decode` does for most files of most jobs, in a third of the steps.
    """
    stop = len(data) - 16
    if (
        stop >= _PNG_LEAST
        and data.startswith(header)
        and data.startswith((stop - 41).to_bytes(4, "big") + b"IDAT", 33)
        and data.startswith(crc32(data[37:stop]).to_bytes(4, "big") + _PNG_END, stop)
    ):
        try:
            return _decode_png(data)
        except Exception:  # noqa: BLE001  each decoder has kinds of its own; `pillow` says what is wrong
            return None
    return None


def decode(data: bytes, rule: PixelRule) -> Bytes | None:
    """A plain picture as (h, w) or (h, w, 3) bytes; None where it is not plain, very large, something is wrong with it,
    or the rule has it shrunk by its decoder, which Pillow alone can ask for.
    """
    try:
        if data[:16] == _PNG_START:
            return _decode_png(data) if _plain_png(data) else None
        if data[:4] == _JPEG_START:
            pixels = _decode_jpeg(data) if _plain_jpeg(data, rule) else None
            return None if pixels is None or may_be_filled_up(pixels[-1, -1]) else pixels
    except Exception:  # noqa: BLE001  as above
        return None
    return None


def may_be_filled_up(last_pixel: Bytes) -> bool:
    """Whether the last pixel of a JPEG is the middle grey that decoders put, without a word, where data are missing."""
    return bool(((last_pixel == 128) | (last_pixel == 127)).all())


def _plain_png(data: bytes) -> bool:
    """Whole, every checksum right (libspng sees to IHDR's), and no transparency, EXIF, animation or text."""
    if (
        data[24:29] not in _PNG_KINDS.values()
        or data[-12:] != _PNG_END
        or _number(data[16:20]) * _number(data[20:24]) > min(_MOST, memory.pixel_limit())
    ):
        return False
    at, end = 33, len(data) - 12
    while at < end:
        stop = at + 8 + int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : stop]
        if body[:4] not in _PNG_PLAIN or crc32(body) != int.from_bytes(data[stop : stop + 4], "big"):
            return False
        at = stop + 4
    return at == end


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _plain_jpeg(data: bytes, rule: PixelRule) -> bool:
    """Whole, baseline, 8 bits, one or three components, in one scan, without EXIF, ICC or Adobe's marker; and decoded
    at its own size.
    """
    at, most = 2, min(_MOST, memory.pixel_limit())
    while at + 10 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _JPEG_SCAN:
            stop = _JPEG_MARKER.search(data, end)
            return stop is not None and stop.group() == b"\xff\xd9" and stop.end() == len(data)
        if marker == _JPEG_BASELINE:
            width, height = _number(data[at + 7 : at + 9]), _number(data[at + 5 : at + 7])
            if data[at + 4] != 8 or data[at + 9] not in {1, 3} or not 0 < width * height <= most:
                return False
            if framing.jpeg_scale((width, height), rule) > 1:
                return False
        elif marker not in _JPEG_PLAIN:
            return False
        at = end
    return False
