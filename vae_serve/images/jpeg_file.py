"""A JPEG file taken apart: what its pixels need, and what its metadata say about showing them. Nothing is decoded.

ITU-T T.81, annex B; ITU-T T.871 (JFIF); Adobe Technical Note 5116 (the marker that tells CMYK and YCCK apart).
"""

import re
from dataclasses import dataclass

from vae_serve.errors import ImageError
from vae_serve.images import orientation

START = b"\xff\xd8\xff"
_SCAN, _END = 0xDA, 0xD9
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_COMMENT, _APPLICATIONS, _ADOBE, _JFIF = 0xFE, range(0xE0, 0xF0), 0xEE, 0xE0
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_NUMBER_OF_IMAGES = 0xB001  # multi-picture format, CIPA DC-007
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_HUFFMAN = {0xC0, 0xC1}  # sequential
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_OTHER_DATA = b"\x55" * 16 + b"".join(bytes([0xFF, 0xD0 + number]) + b"\x55" * 16 for number in range(8))


@dataclass(frozen=True)
class JpegFile:
    """A JPEG file up to its first scan, and what follows."""

    data: bytes  # without comments and those application segments that no decoder needs
    width: int
    height: int
    components: int
    scans: int  # where it is progressive, else 1
    buffered: bool  # whether a decoder keeps all coefficients: progressive, or components in scans of their own
    plain_scan: int  # where its only scan begins, if that is of Huffman codes; else 0
    orientation: int  # 1 to 8 as in EXIF
    animated: bool  # there are more pictures in it

    def with_other_end(self) -> bytes:
        """The file with more data at the end of its only scan. A decoder reads them where the scan's own are missing;
        where it is whole they change no pixel.
        """
        end = _SCAN_END.search(self.data, self.plain_scan + 2)
        stop = end.start() if end else len(self.data)
        return self.data[:stop] + _OTHER_DATA + self.data[stop:]


def read(data: bytes) -> JpegFile:
    """Takes a file that begins with `START` apart.

    Raises:
        ImageError: with kind `truncated`, `damaged` or `unsupported`.
    """
    kept, at, frame, marker = [data[:2]], 2, b"", 0
    exif, xmp, animated = b"", b"", False
    while True:
        start = at = _next_marker(data, at)
        marker = data[at + 1]
        if marker in (_SCAN, _END):
            break
        at += 2
        if marker == 0x01 or marker in range(0xD0, 0xD9):  # these stand alone
            continue
        stop = at + int.from_bytes(data[at : at + 2], "big")
        if stop > len(data):
            raise ImageError("truncated", f"the JPEG ends after {len(data):,} bytes, within its header")
        body = data[at + 2 : stop]
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif += body[6:] if exif else body
        elif marker == 0xE1 and body.startswith(_XMP):
            xmp = body
        elif marker == 0xE2 and body.startswith(b"MPF\0"):
            animated = dict(orientation.directory(body[4:])).get(_NUMBER_OF_IMAGES, 1) > 1
        if marker in _FRAMES:
            frame = bytes([marker]) + body
        if (marker not in _APPLICATIONS and marker != _COMMENT) or marker in (_ADOBE, _JFIF):
            kept.append(data[start:stop])
        at = stop
    if len(frame) < 7 or marker == _END:
        raise ImageError("damaged", "it has no frame before its first scan: it is not a whole JPEG")
    _, depth, height, width, components = frame[0], frame[1], frame[2:4], frame[4:6], frame[6]
    if depth != 8:
        raise ImageError("unsupported", f"its samples have {depth} bits; JPEG files with 8 are read")
    progressive = frame[0] in _PROGRESSIVE
    buffered = progressive or data[at + 4 : at + 5] != bytes([components])
    scan = sum(map(len, kept))
    return JpegFile(
        b"".join([*kept, data[at:]]) if scan < at else data,
        int.from_bytes(width, "big"),
        int.from_bytes(height, "big"),
        components,
        data.count(b"\xff\xda", at) if progressive else 1,
        buffered,
        scan if frame[0] in _HUFFMAN and not buffered else 0,
        orientation.of_exif(exif) or orientation.of_xmp(xmp) or orientation.UPRIGHT,
        animated,
    )


def _next_marker(data: bytes, at: int) -> int:
    """Where the next marker begins; what stands between segments is passed over, as decoders do."""
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 4 > len(data):
            raise ImageError("truncated", f"the JPEG ends after {len(data):,} bytes, within its header")
        if data[at + 1] not in (0x00, 0xFF):
            return at
        at += 1
