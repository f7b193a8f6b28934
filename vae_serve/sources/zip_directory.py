"""The directory of a zip archive: which members there are and where, by APPNOTE.TXT 6.3.10 (PKWARE 2022).

The standard library's reader takes the last bytes that look like a directory's end, also those in a comment, decodes
names by the flag alone, and keeps an object for each member.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from vae_serve.errors import ImageError, SourceError
from vae_serve.sources.files import FILE_LIMIT
from vae_serve.sources.members import Failure, Place
from vae_serve.sources.readable import Readable, read_at

STORED, DEFLATED = 0, 8

_ENTRY = struct.Struct("<4sHHHHHHIIIHHHHHII")  # 4.3.12
_LOCAL = struct.Struct("<4sHHHHHIIIHH")  # 4.3.7
_END = struct.Struct("<4sHHHHIIH")  # 4.3.16
_END64 = struct.Struct("<4sQHHIIQQQQ")  # 4.3.14
_LOCATOR64 = struct.Struct("<4sIQI")  # 4.3.15
_EXTRA = struct.Struct("<HH")  # 4.5.1: header ID, size

_ZIP64, _UNICODE_PATH = 0x0001, 0x7075  # header IDs, 4.5.3 and 4.6.9
_ENCRYPTED, _SIZES_FOLLOW, _UTF8 = 1 << 0, 1 << 3, 1 << 11  # 4.4.4
_MOST16, _MOST32 = 0xFFFF, 0xFFFF_FFFF
_UNIX, _MAC = 3, 19  # hosts whose attributes are a file's mode, 4.4.2
_MODE_KINDS, _LINK_MODE, _FILE_MODE, _FOLDER_MODE = 0o170000, 0o120000, 0o100000, 0o040000
_ENTRY_MARK, _END_MARK = b"PK\1\2", b"PK\5\6"
_LARGEST_ENTRY = _ENTRY.size + 3 * _MOST16

_BLOCK = 1 << 20
_LOCAL_EXTRA = 64  # bytes that a local extra field seldom passes
MEMBER_AHEAD = _LOCAL.size + _LOCAL_EXTRA  # bytes before a member's contents, beside its name
_AT_ONCE = 1 << 22  # packed bytes that are read and unpacked in one go


class Entry(NamedTuple):
    """A member as the directory has it."""

    name: bytes  # UTF-8, with forward slashes
    place: Place
    is_link: bool = False
    failure: Failure | None = None


class _Directory(NamedTuple):
    """Where the directory lies, and what the archive's end says about it."""

    start: int
    stop: int
    prefix: int  # bytes before the archive, which its offsets do not count
    members: int  # how many, by the end record
    wraps: int  # and the number that this count is taken modulo


def entries(file: Readable, path: object) -> list[Entry]:
    """All members of an open archive, folders excepted, in the directory's order.

    Raises:
        SourceError: it is not a zip archive, is damaged, or can be read in two ways.
    """
    directory = _find_directory(file, path)
    members = list(_parse(file, path, directory))
    if (len(members) - directory.members) % directory.wraps:
        raise _damaged(path, f"its directory has {len(members):,} members, and its end says {directory.members:,}")
    by_place = sorted(range(len(members)), key=lambda number: members[number].place.offset)
    ends = [*(members[number].place.offset for number in by_place[1:]), directory.start]
    for number, end in zip(by_place, ends, strict=False):
        place = members[number].place
        if place.offset + _LOCAL.size + place.name_length + place.packed > end:
            overlap = Failure("damaged", "it overlaps another member or the directory of the archive")
            members[number] = members[number]._replace(failure=overlap)
    return [entry for entry in members if not entry.name.endswith(b"/")]


def _find_directory(file: Readable, path: object) -> _Directory:
    size = file.size
    begin = max(0, size - _END.size - _MOST16)
    tail = read_at(file, size - begin, begin)
    exact: list[_Directory] = []  # by end records whose comment is all that follows them
    others: list[_Directory] = []
    at = tail.rfind(_END_MARK)
    while at >= 0:
        if at + _END.size <= len(tail):
            record = _END.unpack_from(tail, at)
            directory = _directory_before(file, path, begin + at, record)
            if directory:
                (exact if at + _END.size + record[-1] == len(tail) else others).append(directory)
        at = tail.rfind(_END_MARK, 0, at)
    candidates = exact or others
    if not candidates:
        raise _damaged(path, "it has no directory of its members")
    if len(candidates) > 1:
        raise _damaged(path, "it has two directories of members, of which different readers take either")
    return candidates[0]


def _directory_before(file: Readable, path: object, end: int, record: tuple[Any, ...]) -> _Directory | None:
    """The directory that an end record at `end` tells of; None where there is none."""
    _, disk, first_disk, _, count, size, offset, _ = record
    stop, wraps = end, _MOST16 + 1
    locator = read_at(file, _LOCATOR64.size, end - _LOCATOR64.size) if end >= _LOCATOR64.size else b""
    if locator.startswith(b"PK\6\7") and len(locator) == _LOCATOR64.size:
        _, _, place, _ = _LOCATOR64.unpack(locator)
        for stop in (place, end - _LOCATOR64.size - _END64.size):  # the second where data stand before the archive
            data = read_at(file, _END64.size, stop) if 0 <= stop <= end else b""
            if data.startswith(b"PK\6\6") and len(data) == _END64.size:
                break
        else:
            return None
        *_, disk64, first_disk64, _, count64, size64, offset64 = _END64.unpack(data)
        both = ((count, count64, _MOST16), (size, size64, _MOST32), (offset, offset64, _MOST32))
        if any(short not in {long, most} for short, long, most in both):
            raise _damaged(path, "its two end records contradict each other")
        disk, first_disk, count, size, offset, wraps = disk64, first_disk64, count64, size64, offset64, 1 << 64
    start = stop - size
    if start < 0:
        return None
    if offset == _MOST32 and wraps == _MOST16 + 1:  # Info-ZIP's `zip -fz` leaves out the record that it refers to
        offset = start
    there = _is_directory(file, start) or not size
    elsewhere = start != offset and _is_directory(file, offset)
    if disk or first_disk or (not there and not elsewhere):
        return None
    if there and elsewhere:
        raise _damaged(path, "it has two directories of members, of which different readers take either")
    if elsewhere:
        return _Directory(offset, offset + size, 0, count, wraps) if offset + size <= stop else None
    return _Directory(start, stop, start - offset, count, wraps) if start >= offset else None


def _is_directory(file: Readable, offset: int) -> bool:
    return offset < 1 << 62 and file.pread(4, offset) == _ENTRY_MARK


def _parse(file: Readable, path: object, directory: _Directory) -> Iterator[Entry]:
    at, window, begin = directory.start, b"", directory.start
    while at < directory.stop:
        if at + _LARGEST_ENTRY > begin + len(window) < directory.stop:
            begin, window = at, read_at(file, min(_BLOCK, directory.stop - at), at)
        if at + _ENTRY.size > begin + len(window):
            raise _damaged(path, "its directory is cut short")
        (mark, version, _, flags, method, _, _, crc, packed, size, name_size, extra_size, comment_size, _, _, mode,
         offset) = _ENTRY.unpack_from(window, at - begin)  # fmt: skip
        texts = at - begin + _ENTRY.size
        stop = texts + name_size + extra_size + comment_size
        if mark != _ENTRY_MARK or stop > len(window):
            raise _damaged(path, f"its directory is damaged at byte {at:,}")
        raw = window[texts : texts + name_size]
        extra = _extra_fields(window[texts + name_size : texts + name_size + extra_size]) if extra_size else {}
        failure = None
        if _MOST32 in {size, packed, offset} and _ZIP64 in extra:
            try:
                size, packed, offset = _long_sizes(extra[_ZIP64], size, packed, offset)
            except struct.error:
                failure = Failure("damaged", "its entry in the archive's directory is cut short")
        if max(size, packed, offset) >= 1 << 62:
            raise _damaged(path, f"a member of its directory, at byte {at:,}, is of more than any file's size")
        kind = mode >> 16 & _MODE_KINDS if version >> 8 in {_UNIX, _MAC} else 0
        if kind not in {0, _LINK_MODE, _FILE_MODE, _FOLDER_MODE}:
            failure = Failure("not_a_file", "it is a pipe or a device, not a file")
        place = Place(
            offset + directory.prefix, packed, size, method, crc, flags, name_length=len(raw), name_crc=zlib.crc32(raw)
        )
        yield Entry(_name(raw, flags, extra), place, kind == _LINK_MODE, failure)
        at = begin + stop


def _extra_fields(data: bytes) -> dict[int, bytes]:
    """By header ID; the first where one comes twice."""
    fields: dict[int, bytes] = {}
    at = 0
    while at + _EXTRA.size <= len(data):
        number, size = _EXTRA.unpack_from(data, at)
        at += _EXTRA.size
        fields.setdefault(number, data[at : at + size])
        at += size
    return fields


def _long_sizes(field: bytes, *sizes: int) -> Iterator[int]:
    """Each size, or what the field has in its place; raises struct.error where that is missing."""
    at = 0
    for size in sizes:
        if size == _MOST32:
            (size,) = struct.unpack_from("<Q", field, at)  # noqa: PLW2901
            at += 8
        yield size


def _name(raw: bytes, flags: int, extra: dict[int, bytes]) -> bytes:
    """As UTF-8: by the flag, by the Unicode path field where it is of this very name, by what it looks like."""
    if not extra and raw.isascii():
        return raw.replace(b"\\", b"/")
    name = raw
    field = extra.get(_UNICODE_PATH, b"")
    if not flags & _UTF8:
        if field[:1] == b"\1" and field[1:5] == zlib.crc32(raw).to_bytes(4, "little") and _is_utf8(field[5:]):
            name = field[5:]
        elif not _is_utf8(raw):  # many writers use UTF-8 without the flag
            name = raw.decode("cp437").encode()
    return name.replace(b"\\", b"/")


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def read_member(file: Readable, place: Place) -> bytes:
    """A member's contents.

    Raises:
        ImageError: `encrypted`, `unsupported`, `damaged`, `checksum`, `too_large`.
    """
    if place.size > FILE_LIMIT:
        raise ImageError("too_large", f"it declares {place.size:,} bytes; the limit is {FILE_LIMIT:,}")
    return b"".join(member_blocks(file, place))


def member_blocks(file: Readable, place: Place) -> Iterator[bytes]:
    """The same in blocks. Until the last one has come, those before it are not known to be right."""
    if place.flags & _ENCRYPTED:
        raise ImageError("encrypted", "it is encrypted; unpack the archive first")
    if place.method not in {STORED, DEFLATED}:
        raise ImageError("unsupported", f"it is packed by method {place.method}; stored and deflated can be read")
    ahead = _LOCAL.size + place.name_length
    data = file.pread(ahead + _LOCAL_EXTRA + min(place.packed, _AT_ONCE), place.offset)
    start = _check_local_header(file, place, data)
    data = data[start : start + place.packed]
    if place.packed <= _AT_ONCE and len(data) < place.packed:  # a long extra field
        data = read_at(file, place.packed, place.offset + start)
    size, crc = 0, 0
    for block in _unpacked(file, place, data, place.offset + start):
        size += len(block)
        if size > place.size:
            break
        crc = zlib.crc32(block, crc)
        yield block
    if size != place.size:
        raise ImageError("damaged", f"it unpacks to other than the {place.size:,} bytes that the archive declares")
    if crc != place.crc:
        raise ImageError("checksum", "its checksum in the archive is wrong: it is damaged")


def local_name(file: Readable, place: Place) -> bytes:
    """The name that a member's own header has; empty where there is no header."""
    data = file.pread(_LOCAL.size + place.name_length, place.offset)
    return data[_LOCAL.size :] if data.startswith(b"PK\3\4") else b""


def stored_at(file: Readable, place: Place) -> int:
    """Where the contents of a stored member begin; raises ImageError as `read_member` does."""
    header = file.pread(_LOCAL.size + place.name_length, place.offset)
    return place.offset + _check_local_header(file, place, header)


def _unpacked(file: Readable, place: Place, data: bytes, offset: int) -> Iterator[bytes]:
    """The blocks of a member whose first packed bytes, at `offset`, are `data`."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS) if place.method == DEFLATED else None
    left = place.packed
    try:
        while True:
            left -= len(data)
            offset += len(data)
            if stream is None:
                yield data
            elif place.size < _AT_ONCE:
                yield stream.decompress(data, place.size + 1)  # a bomb gets no further
            else:
                while data or stream.unconsumed_tail:
                    block = stream.decompress(data or stream.unconsumed_tail, _AT_ONCE)
                    yield block
                    data = b""
                    if stream.eof:
                        return
            data = file.pread(min(left, _AT_ONCE), offset) if left > 0 else b""
            if not data or (stream and stream.eof):
                return
    except zlib.error as error:
        raise ImageError("damaged", f"it cannot be unpacked: {error}") from error


def _check_local_header(file: Readable, place: Place, data: bytes) -> int:
    """Where the contents begin, counted from the header; raises ImageError where it is not the directory's member."""
    if len(data) < _LOCAL.size or not data.startswith(b"PK\3\4"):
        raise ImageError("damaged", "the archive has no member where its directory says so")
    _, _, flags, method, _, _, crc, packed, size, name_size, extra_size = _LOCAL.unpack_from(data)
    start: int = _LOCAL.size + name_size + extra_size
    name = data[_LOCAL.size : _LOCAL.size + name_size]
    if name_size != place.name_length or zlib.crc32(name) != place.name_crc:
        raise ImageError("damaged", "the archive's directory and the member itself have different names for it")
    if _MOST32 in {size, packed}:
        field = _extra_fields(file.pread(extra_size, place.offset + _LOCAL.size + name_size)).get(_ZIP64, b"")
        with suppress(struct.error):
            size, packed = _long_sizes(field, size, packed)
    unknown = {0, _MOST32} if flags & _SIZES_FOLLOW else set()
    if (
        method != place.method
        or (flags ^ place.flags) & _ENCRYPTED
        or size not in {place.size, *unknown}
        or packed not in {place.packed, *unknown}
        or crc not in {place.crc, *unknown}
    ):
        raise ImageError("damaged", "the archive's directory and the member itself contradict each other about it")
    return start


def _damaged(path: object, why: str) -> SourceError:
    return SourceError(f"{path} cannot be read as a zip archive: {why}")
