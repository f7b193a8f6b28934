"""Picture files written sample by sample, for what no library writes. PNG third edition; TIFF revision 6."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    """The file that Pillow writes."""
    room = io.BytesIO()
    image.save(room, form, **options)
    return room.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def packed(samples: np.ndarray, bits: int) -> bytes:
    """Rows of samples (h, n), each of some bits, the highest first; rows begin at a byte."""
    planes = (samples[..., np.newaxis].astype(np.uint64) >> np.arange(bits - 1, -1, -1, dtype=np.uint64)) & np.uint64(1)
    return np.packbits(planes.reshape(len(samples), -1).astype(np.uint8), axis=1).tobytes()


def png(samples: np.ndarray, bits: int, colour: int, *before: bytes) -> bytes:
    """A PNG of samples (h, w) or (h, w, c); `before` are the chunks between its header and its pixels."""
    height, width = samples.shape[:2]
    lines = packed(samples.reshape(height, -1), bits)
    size = len(lines) // height
    raw = b"".join(b"\0" + lines[at : at + size] for at in range(0, len(lines), size))
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    end = chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(before) + end


def tiff(order: str, tags: dict[int, list[int]], strips: list[bytes]) -> bytes:
    """A TIFF in the byte order `<` or `>` of strips of pixels and the tags that describe them."""
    body = b"".join(strips) + bytes(sum(map(len, strips)) % 2)
    starts = [8 + sum(map(len, strips[:at])) for at in range(len(strips))]
    tags = {**tags, 273: starts, 279: [len(strip) for strip in strips]}
    entries, values, at = b"", b"", 8 + len(body) + 2 + 12 * len(tags) + 4
    for tag, numbers in sorted(tags.items()):
        kind, form = (4, "I") if tag in (273, 279) else (3, "H")
        value = struct.pack(f"{order}{len(numbers)}{form}", *numbers)
        entries += struct.pack(f"{order}HHI", tag, kind, len(numbers))
        entries += value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(f"{order}I", at + len(values))
        values += value + bytes(len(value) % 2) if len(value) > 4 else b""
    start = b"II*\0" if order == "<" else b"MM\0*"
    directory = struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + values
    return start + struct.pack(f"{order}I", 8 + len(body)) + body + directory
