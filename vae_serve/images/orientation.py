"""The orientation of a picture, from its EXIF block or its XMP, both untrusted. Pure.

Metadata that cannot be read are ignored: they never fail a picture. Exif 3.0 (CIPA DC-008), 4.6; XMP, part 2, 3.6.
"""

import re
import struct
from collections.abc import Iterator

UPRIGHT = 1
TAG = 0x0112
_SHORT = 3
_MOST_ENTRIES = 4096  # of an image file directory; a real one has a few dozen
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def of_exif(block: bytes) -> int | None:
    """The orientation, 1 to 8, of an EXIF block with or without its `Exif` header; None where it states none."""
    value = next((value for tag, value in directory(block.removeprefix(b"Exif\0\0")) if tag == TAG), None)
    return value if value in range(1, 9) else None


def of_xmp(packet: bytes) -> int | None:
    """The orientation that an XMP packet states; None where it states none."""
    match = _XMP.search(packet)
    value = int(match[1]) if match else None
    return value if value in range(1, 9) else None


def directory(tiff: bytes) -> Iterator[tuple[int, int]]:
    """Tag and first value of each short or long integer in the first directory of a TIFF structure."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return
    (at,) = struct.unpack_from(f"{order}I", tiff, 4)
    if at + 2 > len(tiff):
        return
    (count,) = struct.unpack_from(f"{order}H", tiff, at)
    for entry in range(at + 2, min(at + 2 + 12 * min(count, _MOST_ENTRIES), len(tiff) - 11), 12):
        tag, kind, _ = struct.unpack_from(f"{order}HHI", tiff, entry)
        if kind in (_SHORT, _SHORT + 1):
            yield tag, struct.unpack_from(f"{order}{'H' if kind == _SHORT else 'I'}", tiff, entry + 8)[0]
