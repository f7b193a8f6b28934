"""Encoded pictures, of every kind that is decoded."""

import io
import struct
from typing import Any

import numpy as np
from PIL import Image


def _pixels(mode: str, width: int = 9, height: int = 7) -> Image.Image:
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    levels = np.arange(height * width * channels, dtype=np.uint32) * 37 % 251
    return Image.frombytes(mode, (width, height), levels.astype(np.uint8).tobytes())


def picture(kind: str, mode: str = "L", **options: Any) -> bytes:
    """An encoded picture of 9 x 7 pixels."""
    file = io.BytesIO()
    image = _pixels("RGB" if mode in {"P", "1"} else mode)
    image.convert(mode).save(file, kind, **options)
    return file.getvalue()


def _deep(kind: str, dtype: str, scale: float = 800.0) -> bytes:
    file = io.BytesIO()
    Image.fromarray((np.arange(63).reshape(7, 9) * scale).astype(dtype)).save(file, kind)
    return file.getvalue()


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "a description"
    return exif


def pngs() -> list[bytes]:
    """PNG of every colour type, with the ancillary chunks that a decoder heeds."""
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("Comment", "plain")
    text.add_text("Long", "packed " * 50, zip=True)
    text.add_itxt("Title", "title", "en", "Titel")
    return [
        *(picture("PNG", mode) for mode in ("L", "LA", "RGB", "RGBA", "P", "1")),
        picture("PNG", "L", transparency=3),
        picture("PNG", "P", transparency=b"\0\x80\xff"),
        picture("PNG", "RGB", exif=_exif(6), icc_profile=b"\0" * 128, pnginfo=text, dpi=(72, 72)),
        picture("PNG", "RGB", save_all=True, append_images=[_pixels("RGB")]),
        _deep("PNG", "uint16"),
    ]


def jpegs() -> list[bytes]:
    """JPEG: baseline, progressive, grey, CMYK, with EXIF, a comment and an ICC profile."""
    return [
        picture("JPEG", "RGB"),
        picture("JPEG", "L", progressive=True),
        picture("JPEG", "CMYK"),
        picture("JPEG", "RGB", exif=_exif(3), icc_profile=b"\0" * 128, comment=b"a comment"),
    ]


def tiffs() -> list[bytes]:
    """TIFF: of several depths and ways of packing, with a second page and an orientation."""
    return [
        picture("TIFF", "L"),
        picture("TIFF", "RGBA", compression="tiff_lzw"),
        picture("TIFF", "P", compression="tiff_adobe_deflate"),
        picture("TIFF", "1", compression="group4"),
        picture("TIFF", "RGB", compression="jpeg"),
        picture("TIFF", "L", compression="packbits", save_all=True, append_images=[_pixels("L")]),
        picture("TIFF", "L", tiffinfo={0x0112: 6}),
        _deep("TIFF", "uint16"),
        _deep("TIFF", "int32"),
        _deep("TIFF", "float32", 1 / 64),
    ]


def gifs() -> list[bytes]:
    """GIF: one frame, several, transparent."""
    return [
        picture("GIF", "L"),
        picture("GIF", "P", transparency=2, comment=b"a comment"),
        picture("GIF", "RGB", save_all=True, append_images=[_pixels("RGB")], duration=40, loop=0),
    ]


def bmps() -> list[bytes]:
    """BMP of several depths."""
    return [picture("BMP", mode) for mode in ("1", "L", "P", "RGB", "RGBA")]


def webps() -> list[bytes]:
    """WebP: lossy, lossless, animated, with EXIF."""
    return [
        picture("WEBP", "RGB"),
        picture("WEBP", "RGBA", lossless=True),
        picture("WEBP", "RGB", exif=_exif(8), icc_profile=b"\0" * 128),
        picture("WEBP", "RGB", save_all=True, append_images=[_pixels("RGB")]),
    ]


def avifs() -> list[bytes]:
    """AVIF: opaque and transparent; none where Pillow has no such codec."""
    from PIL import features

    return [picture("AVIF", mode, speed=10) for mode in ("RGB", "RGBA")] if features.check("avif") else []


def ppms() -> list[bytes]:
    """PPM, PGM and PBM, binary and plain text, of 8 and 16 bits, and PFM."""
    plain = [b"P3\n# comment\n2 2\n255\n1 2 3 4 5 6 7 8 9 10 11 12\n", b"P2 2 2 15 1 2 3 4\n", b"P1 2 2 0 1 1 0\n"]
    floats = b"Pf\n2 2\n-1.0\n" + struct.pack("<4f", 0, 0.25, 0.5, 1)
    deep = b"P5 2 2 65535\n" + struct.pack(">4H", 0, 1, 256, 65535)
    return [picture("PPM", "RGB"), picture("PPM", "L"), picture("PPM", "1"), *plain, floats, deep]


def orientations() -> list[bytes]:
    """EXIF of both byte orders, with and without its header, and XMP."""
    exif = _exif(6).tobytes()
    big = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 8, 0, 0)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
    return [exif, exif.removeprefix(b"Exif\0\0"), big, xmp]
