"""Zip archives of many small files, stored, in flat memory: the standard library's writer keeps an object for each.

APPNOTE.TXT, .ZIP File Format Specification 6.3.10 (PKWARE 2022). The same files give the same bytes: no dates.
"""

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

_LOCAL = struct.Struct("<IHHHHHIIIHH")  # 4.3.7
_CENTRAL = struct.Struct("<IH26s10xI")  # 4.3.12; the 26 bytes are those of the local header, after its signature
_SIZES = struct.Struct("<18xI4xH")  # of a local header: the file's, the name's
_END = struct.Struct("<IHHHHIIH")  # 4.3.16
_END64 = struct.Struct("<IQHHIIQQQQ")  # 4.3.14
_LOCATOR64 = struct.Struct("<IIQI")  # 4.3.15
_LARGE_OFFSET = struct.Struct("<HHQ")  # 4.5.3
_FAR = struct.Struct("<H22sH")  # a local header's 26 bytes with another version and an extra field

_PLAIN, _ZIP64 = 20, 45  # versions needed to extract
_DATE = 0x21  # 1 January 1980, the earliest that the format knows
_MOST16, _MOST32 = 0xFFFF, 0xFFFF_FFFF


def record(name: str, contents: bytes) -> bytes:
    """One file (below 4 GiB, ASCII name) as it stands in an archive."""
    title = name.encode("ascii")
    size = len(contents)
    header = _LOCAL.pack(
        0x04034B50, _PLAIN, 0, 0, 0, _DATE, zlib.crc32(contents), size, size, len(title), 0
    )  # fmt: skip
    return header + title + contents


def write(file: BinaryIO, runs: Callable[[], Iterable[bytes]]) -> None:
    """Writes an archive of runs of records from where the file stands. `runs` is called twice, with the same result."""
    begin = file.tell()
    for run in runs():
        file.write(run)
    directory = file.tell()
    count = 0
    for listed in _directory(runs(), begin):
        file.write(b"".join(listed))
        count += len(listed)
    end = file.tell()
    if count > _MOST16 or end > _MOST32:
        file.write(
            _END64.pack(0x06064B50, _END64.size - 12, _ZIP64, _ZIP64, 0, 0, count, count, end - directory, directory)
        )
        file.write(_LOCATOR64.pack(0x07064B50, 0, end, 1))
    entries = min(count, _MOST16)
    file.write(_END.pack(0x06054B50, 0, 0, entries, entries, min(end - directory, _MOST32), min(directory, _MOST32), 0))


def _directory(runs: Iterable[bytes], offset: int) -> Iterator[list[bytes]]:
    """The central directory's entries for each of the runs of records, which begin at `offset`."""
    for run in runs:
        entries = []
        at = 0
        while at < len(run):
            size, title_size = _SIZES.unpack_from(run, at)
            start = at + _LOCAL.size
            title = run[start : start + title_size]
            if offset + at <= _MOST32:
                entries.append(_CENTRAL.pack(0x02014B50, _PLAIN, run[at + 4 : start], offset + at) + title)
            else:
                header = _FAR.pack(_ZIP64, run[at + 6 : start - 2], _LARGE_OFFSET.size)
                extra = _LARGE_OFFSET.pack(1, 8, offset + at)
                entries.append(_CENTRAL.pack(0x02014B50, _ZIP64, header, _MOST32) + title + extra)
            at = start + title_size + size
        offset += len(run)
        yield entries
