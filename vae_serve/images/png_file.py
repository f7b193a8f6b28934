"""A PNG file taken apart: what its pixels need, and what its metadata say about showing them. Nothing is decoded.

Text, profiles and the frames of an animation are left out, so that no decoder fails on them. PNG (Portable
Network Graphics) Specification, third edition, W3C 2025.
"""

import struct
import zlib
from contextlib import suppress

import msgspec

from vae_serve.errors import ImageError
from vae_serve.images import orientation

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6  # colour types (section 11.2.1)
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}

_DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGBA: (8, 16)}
_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # 8.1
_ONE_PASS = ((0, 0, 1, 1),)
_BLOCK = 1 << 20
_TEXT_LIMIT = 1 << 17  # unpacked bytes of a text chunk that are looked at
# Damage within these changes no pixel. Any other name could be that of a chunk that does, with a bit flipped.
_METADATA = {b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"tIME", b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD"}
_METADATA |= {b"hIST", b"sPLT", b"cICP", b"mDCV", b"cLLI"}


class PngFile(msgspec.Struct, frozen=True):
    """A PNG file whose checksums are right."""

    data: bytes  # the file with the chunks alone that its pixels need
    width: int
    height: int
    depth: int  # bits of a sample: 1, 2, 4, 8 or 16
    colour: int
    interlaced: bool
    key: tuple[int, ...] | None  # the grey level or colour, in samples of the file, that is transparent
    orientation: int  # 1 to 8 as in EXIF
    animated: bool


def read(data: bytes) -> PngFile:
    """Takes a file that begins with `SIGNATURE` apart.

    Raises:
        ImageError: with kind `truncated`, `checksum`, `damaged` or `unsupported`.
    """
    kept, metadata, frames_first = [SIGNATURE], list[tuple[bytes, bytes]](), False
    bodies: dict[bytes, bytes] = {}
    for name, start, stop, whole in _chunks(data):
        if name in _PIXELS:
            kept.append(data[start - 8 : stop + 4])
            if name == b"IDAT":
                bodies.setdefault(name, b"")
            elif name in bodies:
                raise ImageError("damaged", f"it has two PNG chunks {name!r}")
            else:
                bodies[name] = data[start:stop]
        elif not name[0] & 0x20:
            raise ImageError("unsupported", f"it has the PNG chunk {name!r}, without which it cannot be shown rightly")
        elif whole and name in (b"eXIf", b"iTXt", b"zTXt", b"tEXt"):
            metadata.append((name, data[start:stop]))
        elif name == b"acTL":
            bodies[name] = data[start:stop]
        elif name == b"fcTL":
            frames_first |= b"IDAT" not in bodies
        if name == b"IHDR" and len(kept) != 2:
            raise ImageError("damaged", "its PNG header is not its first chunk")
    width, height, depth, colour, interlaced = _header(bodies)
    return PngFile(
        b"".join(kept) if len(metadata) or len(data) > sum(map(len, kept)) else data,
        width,
        height,
        depth,
        colour,
        interlaced,
        _key(bodies.get(b"tRNS"), depth, colour),
        _orientation(metadata),
        b"acTL" in bodies and int.from_bytes(bodies[b"acTL"][:4], "big") + (not frames_first) > 1,
    )


def has_all_pixels(data: bytes) -> bool:
    """Whether the unpacked length of a readable PNG is that of its picture; Pillow leaves out what is missing."""
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    needed = 0
    for left, top, across, down in _ADAM7 if interlaced else _ONE_PASS:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 < rows:
            needed += rows * (1 + -(-columns * depth * CHANNELS[colour] // 8))
    stream = zlib.decompressobj()
    for name, start, stop, _ in _chunks(data):
        packed = data[start:stop] if name == b"IDAT" else b""
        while packed and needed > 0:
            needed -= len(stream.decompress(packed, _BLOCK))
            packed = stream.unconsumed_tail
    return needed <= 0


def _chunks(data: bytes) -> "list[tuple[bytes, int, int, bool]]":
    """Name, start and stop of each chunk's body up to IEND (section 5.3), and whether its checksum is right."""
    chunks, at = [], len(SIGNATURE)
    while at + 12 <= len(data):
        stop = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if stop + 4 > len(data):
            break
        name = data[at + 4 : at + 8]
        whole = zlib.crc32(memoryview(data)[at + 4 : stop]) == int.from_bytes(data[stop : stop + 4], "big")
        if not whole and name not in _METADATA:
            raise ImageError("checksum", f"the checksum of its PNG chunk {name!r} is wrong: the file is damaged")
        chunks.append((name, at + 8, stop, whole))
        if name == b"IEND":
            return chunks
        at = stop + 4
    raise ImageError("truncated", f"the PNG ends after {len(data):,} bytes, before its last chunk")


def _header(bodies: dict[bytes, bytes]) -> tuple[int, int, int, int, bool]:
    header = bodies.get(b"IHDR", b"")
    if len(header) != 13:
        raise ImageError("damaged", "its PNG header is missing or has another length than 13 bytes")
    width, height, depth, colour, packing, filtering, interlace = struct.unpack(">IIBBBBB", header)
    if depth not in _DEPTHS.get(colour, ()) or packing or filtering or interlace > 1 or not width or not height:
        raise ImageError("damaged", f"its PNG header {header.hex()} is not one of the format's")
    if b"IDAT" not in bodies:
        raise ImageError("damaged", "it has no pixels: the PNG chunk b'IDAT' is missing")
    if colour == PALETTE and not bodies.get(b"PLTE"):
        raise ImageError("damaged", "its pixels are of a palette that it does not have")
    return width, height, depth, colour, interlace == 1


def _key(body: bytes | None, depth: int, colour: int) -> tuple[int, ...] | None:
    """Of the two bytes of each sample, those bits count that the picture's samples have (section 11.3.1.1)."""
    if body is None or colour not in (GREY, RGB):
        return None
    samples = CHANNELS[colour]
    if len(body) < 2 * samples:
        raise ImageError("damaged", f"its PNG chunk b'tRNS' has {len(body)} bytes, not {2 * samples}")
    return tuple(level & ((1 << depth) - 1) for level in struct.unpack_from(f">{samples}H", body))


def _orientation(metadata: list[tuple[bytes, bytes]]) -> int:
    """From eXIf, else from the EXIF block that ImageMagick keeps as text, else from XMP."""
    blocks = [body for name, body in metadata if name == b"eXIf"]
    texts = dict(_text(name, body) for name, body in metadata if name != b"eXIf")
    with suppress(ValueError):  # no hexadecimal digits
        lines = texts.get(b"Raw profile type exif", b"").split(b"\n")
        blocks.append(bytes.fromhex(b"".join(lines[3:]).decode("ascii")))
    stated = [orientation.of_exif(block) for block in blocks]
    stated.append(orientation.of_xmp(texts.get(b"XML:com.adobe.xmp", b"")))
    return next((value for value in stated if value), orientation.UPRIGHT)


def _text(name: bytes, body: bytes) -> tuple[bytes, bytes]:
    """Keyword and text of a text chunk (section 11.3.3), as much of it as matters."""
    keyword, _, rest = body.partition(b"\0")
    packed = name == b"zTXt" or (name == b"iTXt" and rest[:1] == b"\1")
    if name == b"zTXt":
        rest = rest[1:]
    elif name == b"iTXt":
        rest = rest[2:].split(b"\0", 2)[-1]
    if packed:
        try:
            rest = zlib.decompressobj().decompress(rest, _TEXT_LIMIT)
        except zlib.error:
            rest = b""
    return keyword, rest
