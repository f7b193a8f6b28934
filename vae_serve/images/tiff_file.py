"""A TIFF file taken apart: what the pixels of its first picture need, and what it says about showing them.

Only sample types pass that Pillow reads correctly, or incorrectly in a way that `pillow` corrects; any other is
refused by its name. TIFF, revision 6.0, Adobe 1992, and its technical notes. Nothing is decoded.
"""

import struct
from dataclasses import dataclass

from vae_serve.errors import ImageError
from vae_serve.images import orientation

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, MASK, CMYK, YCBCR, CIELAB = 0, 1, 2, 3, 4, 5, 6, 8
_PHOTOMETRIC = {
    WHITE_IS_ZERO: "grey, 0 is white",
    BLACK_IS_ZERO: "grey",
    RGB: "RGB",
    PALETTE: "a palette",
    MASK: "a mask",
}
_PHOTOMETRIC |= {CMYK: "CMYK", YCBCR: "YCbCr", CIELAB: "CIELab"}
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
_FORMAT = {UNSIGNED: "unsigned", SIGNED: "signed", FLOAT: "float"}
_TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTO, FILL_ORDER, SAMPLES, PLANAR = 256, 257, 258, 259, 262, 266, 277, 284
COLOUR_MAP, EXTRA, SAMPLE_FORMAT, SUBSAMPLING, INK_SET = 320, 338, 339, 530, 332
STRIP_OFFSETS, ROWS_PER_STRIP, TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS = 273, 278, 322, 323, 324
# What decoders need: the above, where strips and tiles are, the predictor, fax options, JPEG tables, YCbCr's constants.
_PIXELS = {WIDTH, HEIGHT, BITS, COMPRESSION, PHOTO, FILL_ORDER, SAMPLES, PLANAR, COLOUR_MAP, EXTRA, SAMPLE_FORMAT}
_PIXELS |= {STRIP_OFFSETS, ROWS_PER_STRIP, TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, INK_SET}
_PIXELS |= {279, 292, 293, 317, 325, 347, *range(512, 522), 529, 530, 531, 532}
_XMP = 700
_RAW, _OLD_JPEG, _JPEG = 1, 6, 7
_ASSOCIATED = 1  # of extra samples: alpha that colours were multiplied by
_MOST_VALUES = 1 << 16


@dataclass(frozen=True)
class TiffFile:
    """The first picture of a TIFF file, of a kind that can be read rightly."""

    data: bytes  # the file with a directory of those entries alone that the pixels need
    width: int
    height: int
    depth: int  # bits of a sample
    white_is_zero: bool
    colour_map: tuple[int, ...]
    orientation: int  # 1 to 8 as in EXIF
    animated: bool  # there are more pictures in it


class _Directory:
    """The entries of the first directory, as they stand in the file."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.order = "<" if data[:2] == b"II" else ">"
        self.big = data[2:4] in (b"+\0", b"\0+")
        self._count, self._offset, self._entry = ("Q", "Q", "HHQ") if self.big else ("H", "I", "HHI")
        (at,) = self._unpack(self._offset, 8 if self.big else 4)
        (count,) = self._unpack(self._count, at)
        first, size = at + struct.calcsize(f"={self._count}"), 20 if self.big else 12
        if first + count * size > len(data):
            raise ImageError("truncated", f"the TIFF ends after {len(data):,} bytes, within its directory")
        self.entries: dict[int, int] = {}  # where each tag's entry begins
        for entry in range(first, first + count * size, size):
            self.entries.setdefault(self._unpack("H", entry)[0], entry)
        after = first + count * size
        whole = after + struct.calcsize(f"={self._offset}") <= len(data)
        self.next = self._unpack(self._offset, after)[0] if whole else 0
        self._size = size

    def _unpack(self, form: str, at: int) -> tuple[int, ...]:
        try:
            return struct.unpack_from(self.order + form, self.data, at)
        except (struct.error, OverflowError):
            raise ImageError(
                "truncated", f"the TIFF ends after {len(self.data):,} bytes, within its directory"
            ) from None

    def values(self, tag: int) -> tuple[int, ...]:
        """The integers of a tag; none where it is not there or holds no integers."""
        if tag not in self.entries:
            return ()
        entry = self.entries[tag]
        _, kind, count = self._unpack(self._entry, entry)
        if kind not in _TYPES or not 0 < count <= _MOST_VALUES:
            return ()
        at, room = self._place(entry, kind, count)
        return self._unpack(f"{count}{_TYPES[kind]}", at) if room else ()

    def count(self, tag: int) -> int:
        """How many values a tag has."""
        return self._unpack(self._entry, self.entries[tag])[2] if tag in self.entries else 0

    def raw(self, tag: int) -> bytes:
        """The bytes of a tag."""
        if tag not in self.entries:
            return b""
        _, kind, count = self._unpack(self._entry, self.entries[tag])
        at, _ = self._place(self.entries[tag], kind, count)
        return self.data[at : at + min(count, _MOST_VALUES)]

    def _place(self, entry: int, kind: int, count: int) -> tuple[int, bool]:
        value = entry + (12 if self.big else 8)
        inline = count * _SIZES.get(kind, 1) <= (8 if self.big else 4)
        at = value if inline else self._unpack(self._offset, value)[0]
        return at, at + count * _SIZES.get(kind, 1) <= len(self.data)

    def cut_down(self, tags: set[int]) -> bytes:
        """The file with a directory of some of its tags alone."""
        if not self.next and set(self.entries) <= tags:
            return self.data
        entries = [self.data[at : at + self._size] for tag, at in sorted(self.entries.items()) if tag in tags]
        head = 16 if self.big else 8
        at = -(-len(self.data) // 8) * 8
        start = self.data[: head - struct.calcsize(f"={self._offset}")] + struct.pack(self.order + self._offset, at)
        body: list[bytes | memoryview] = [start, memoryview(self.data)[head:], bytes(at - len(self.data))]
        return b"".join([*body, struct.pack(self.order + self._count, len(entries)), *entries, bytes(8)])


def read(data: bytes) -> TiffFile:
    """Takes a file that begins with one of `STARTS` apart.

    Raises:
        ImageError: with kind `truncated`, `damaged` or `unsupported`.
    """
    if data.startswith(b"MM\0+"):
        raise ImageError("unsupported", "a TIFF of this kind is not read: BigTIFF in big-endian order")
    tags = _Directory(data)
    width, height = (next(iter(tags.values(tag)), 0) for tag in (WIDTH, HEIGHT))
    if width < 1 or height < 1:
        raise ImageError("damaged", "its TIFF directory does not say how large it is")
    white_is_zero, depth = _judge(tags)
    _check_parts(tags, width, height)
    stated = next(iter(tags.values(orientation.TAG)), 0)
    return TiffFile(
        tags.cut_down(_PIXELS),
        width,
        height,
        depth,
        white_is_zero,
        tags.values(COLOUR_MAP),
        stated if stated in range(1, 9) else orientation.of_xmp(tags.raw(_XMP)) or orientation.UPRIGHT,
        tags.next != 0,
    )


def _check_parts(tags: _Directory, width: int, height: int) -> None:
    """Raises ImageError where strips or tiles are missing, in whose place Pillow would put black."""

    def parts(length: int, tag: int) -> int:
        return -(-length // max(1, min(next(iter(tags.values(tag)), length), length)))

    tiled = TILE_WIDTH in tags.entries
    needed = parts(width, TILE_WIDTH) * parts(height, TILE_LENGTH) if tiled else parts(height, ROWS_PER_STRIP)
    if tags.values(PLANAR) == (2,):
        needed *= next(iter(tags.values(SAMPLES)), 1)
    present = tags.count(TILE_OFFSETS if tiled else STRIP_OFFSETS)
    if present < needed and next(iter(tags.values(COMPRESSION)), _RAW) != _OLD_JPEG:
        raise ImageError("truncated", f"the TIFF has {present:,} of the {needed:,} strips or tiles of its picture")


def _judge(tags: _Directory) -> tuple[bool, int]:
    """Whether white is zero, and how many bits a sample has; raises ImageError for kinds that are not read rightly."""

    def first(tag: int, default: int) -> int:
        return next(iter(tags.values(tag)), default)

    raw = first(COMPRESSION, _RAW) == _RAW
    photo = YCBCR if first(COMPRESSION, _RAW) == _OLD_JPEG else first(PHOTO, WHITE_IS_ZERO)
    bits, formats = tags.values(BITS) or (1,), tags.values(SAMPLE_FORMAT) or (UNSIGNED,)
    depth, kind, samples = bits[0], formats[0], first(SAMPLES, len(bits))
    form, colour = _FORMAT.get(kind, f"sample format {kind}"), _PHOTOMETRIC.get(photo, f"photometric {photo}")
    extra = tags.values(EXTRA)
    premultiplied = _ASSOCIATED in extra
    plain = first(FILL_ORDER, 1) == 1
    planes = first(PLANAR, 1) == 2 and (samples > 1 or raw)

    why = None
    if len(set(bits)) > 1 or len(set(formats)) > 1:
        why = f"; its samples differ: bits {bits}, formats {formats}"
    elif photo == CMYK and first(INK_SET, 1) != 1:
        why = ", with other inks"
    elif not _is_known(photo, kind, depth, samples, little=tags.order == "<", raw=raw) or (depth > 8 and not plain):
        why = f", {samples} a pixel"
    elif depth == 16 and premultiplied:
        why = ", multiplied by its alpha"
    elif planes and (
        depth != 8 or photo in (WHITE_IS_ZERO, YCBCR) or premultiplied or not plain or (raw and 0 in extra)
    ):
        why = ", each colour in a plane of its own"
    elif photo == YCBCR and raw and (tags.values(SUBSAMPLING) or (2, 2)) != (1, 1):
        why = ", fewer samples of colour and no compression"
    if why is not None:
        raise ImageError("unsupported", f"a TIFF of this kind is not read: {colour}, {depth} bits, {form}{why}")
    return photo == WHITE_IS_ZERO, depth


def _is_known(photo: int, kind: int, depth: int, samples: int, *, little: bool, raw: bool) -> bool:
    """Whether Pillow 13 reads samples of this kind rightly, or in a way that `pillow` mends."""
    one_grey = photo in (WHITE_IS_ZERO, BLACK_IS_ZERO) and samples == 1
    if photo not in _PHOTOMETRIC or photo in (MASK, CIELAB):
        return False
    if kind == FLOAT:  # of compressed ones Pillow takes the bytes in the file's order, which are in the machine's
        return depth == 32 and one_grey and (raw or little)
    if kind != UNSIGNED:
        return False
    return {
        1: one_grey or photo == PALETTE,
        2: one_grey or photo == PALETTE,
        4: one_grey or photo == PALETTE,
        8: photo != WHITE_IS_ZERO or one_grey,
        12: one_grey and photo == BLACK_IS_ZERO and little,
        16: (one_grey and (photo == BLACK_IS_ZERO or little)) or photo in (RGB, CMYK),
    }.get(depth, False)
