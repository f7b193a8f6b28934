"""The pictures of a tar archive, plain or compressed: POSIX.1-2017 `pax` and `ustar`, GNU tar, and the old V7 format.

The standard library's reader takes a damaged header for the archive's end, so that the members after it are lost
without a word. Here every header's check sum must be right, up to the zeros at the end: tar has no other way to tell.
A compressed archive has no offsets; it is unpacked into an unnamed temporary file first.
"""

import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vae_serve.errors import ImageError, SourceError
from vae_serve.sources.files import Stamp
from vae_serve.sources.members import Archive, ArchiveKind, Failure, Members, Place
from vae_serve.sources.names import shown
from vae_serve.sources.readable import Readable, read_at
from vae_serve.sources.unpacking import MAGIC_SIZE, compression, unpacked_file

if TYPE_CHECKING:
    from vae_serve.sources.members import ArchivePath

_HEADER = 512  # bytes, and of every block
_MOST_TEXT = 1 << 20  # bytes of a long name or of an extended header
_MOST_ZEROS = 1 << 20  # bytes after the end; the largest record that tar writes is of this size

_FILES = frozenset(b"07\0")
_NO_DATA = frozenset(b"123456")
_SPARSE = ord("S")


@dataclass(frozen=True)
class TarSource:
    """A .tar file, plain or compressed by gzip, bzip2 or xz."""

    path: "ArchivePath"

    def open(self) -> Archive:
        """Reads all headers. Members that cannot be read are rows that say so.

        Raises:
            SourceError: it is damaged or cut short, unpacks to too much, or holds no pictures; or there is no room for
                the temporary file.
        """
        members = Members()
        with _opened(self.path) as (file, stamp):
            kind = None if isinstance(self.path, Path) else compression(file.pread(MAGIC_SIZE, 0))
            if kind:
                raise SourceError(
                    f"{self.path} is compressed ({kind}), so that its members cannot be read by ranges; put it there "
                    "unpacked, or its pictures in a zip without compression, or give a local copy"
                )
            for member in _Reader(file, self.path).members():
                member.add_to(members)
            return members.archive(_TAR, self.path, file, stamp)


def _read_member(file: Readable, place: Place) -> bytes:
    data = read_at(file, place.size, place.offset)
    if len(data) != place.size:
        raise ImageError("truncated", f"the archive ends after {len(data):,} of its {place.size:,} bytes")
    return data


@contextmanager
def _opened(path: "ArchivePath") -> Iterator[tuple[Readable, Stamp]]:
    if not isinstance(path, Path):
        from vae_serve.sources.objects.file import StoredFile

        yield StoredFile(path), path.stamp  # which nothing is read of here
        return
    with unpacked_file(path) as opened:
        yield opened


_TAR = ArchiveKind("tar", _opened, _read_member, 0)


@dataclass
class _Member:
    """A header, with what the extended headers before it say."""

    kind: int  # the type flag
    name: bytes
    target: bytes  # of a link
    offset: int  # of the data
    size: int
    changed: bytes  # the time, as it is written there
    sparse: bool = False

    def add_to(self, members: Members) -> None:
        """As a row, as long as it is a picture by its name."""
        place = Place(self.offset, self.size, self.size, crc=zlib.crc32(self.changed))
        failure = None
        if self.kind in b"5DV" or (self.kind in _FILES and self.name.endswith(b"/")):  # a folder, a volume's label
            return
        if self.kind == ord("1") and not self.size:
            members.add_hard_link(self.name, self.target)
            return
        if self.kind == ord("2"):
            members.add_symbolic_link(self.name, self.target)
            return
        if self.sparse:
            failure = Failure("unsupported", "it is stored as a sparse file; pack it without --sparse")
        elif self.kind in b"346":
            failure = Failure("not_a_file", "it is a pipe or a device, not a file")
        elif self.kind not in _FILES and self.kind != ord("1"):
            failure = Failure("unsupported", f"it is a member of the unknown type {chr(self.kind)!r}")
        members.add(self.name, place, failure)


class _Reader:
    """Goes from header to header."""

    def __init__(self, file: Readable, path: "ArchivePath") -> None:
        self._file, self._path = file, path
        self._size = file.size
        self._at = 0  # of the next header
        self._last = b""  # the last member's name, for messages
        self._global: dict[bytes, bytes] = {}
        self._window, self._begin = b"", 0

    def members(self) -> Iterator[_Member]:
        """Every member in the archive's order.

        Raises:
            SourceError: a header is damaged, the archive has no end, or other data follow it.
        """
        extended: dict[bytes, bytes] = {}
        while not self._ended(bool(extended)):
            header = self._header()
            kind, size = header[156], self._number(header[124:136], "size")
            if kind in b"xX":
                extended |= self._records(self._text(size))
            elif kind in b"g":
                self._global |= self._records(self._text(size))
            elif kind in b"L":
                extended[b"GNU.longname"] = self._long_name(size)
            elif kind in b"K":
                extended[b"GNU.longlink"] = self._long_name(size)
            elif kind in b"M":
                raise self._damaged("it is one volume of several; join them first")
            else:
                yield self._member(header, kind, size, {**self._global, **extended})
                extended = {}

    def _member(self, header: bytes, kind: int, size: int, extended: dict[bytes, bytes]) -> _Member:
        name = extended.get(b"path") or extended.get(b"GNU.longname") or _name(header)
        name = extended.get(b"GNU.sparse.name") or name
        target = extended.get(b"linkpath") or extended.get(b"GNU.longlink") or _text(header[157:257])
        if extended.get(b"size"):
            size = self._decimal(extended[b"size"])
        self._last = name
        self._at += _HEADER
        if kind == _SPARSE and header[482]:
            while self._block()[504]:
                self._at += _HEADER
            self._at += _HEADER
        if kind in _NO_DATA and (kind != ord("1") or not size or self._is_header_next()):
            size = 0
        offset = self._at
        self._at += -(-size // _HEADER) * _HEADER
        if offset + size > self._size:
            raise self._damaged(f"it is cut short: it ends after {self._size - offset:,} of this one's {size:,} bytes")
        sparse = kind == _SPARSE or any(key.startswith(b"GNU.sparse.") for key in extended)
        changed = extended.get(b"mtime") or header[136:148]
        return _Member(kind, name, target, offset, size, changed, sparse)

    def _ended(self, is_announced: bool) -> bool:
        """Whether here is the archive's end: zeros up to the file's."""
        block = self._block(least=0)
        if block.count(0) != len(block):
            return False
        if not block:
            raise self._damaged("it is cut short: it has no end")
        if is_announced:
            raise self._damaged("it ends before the member that its last header announces")
        end, at = self._at, self._at
        while data := read_at(self._file, self._file.window, at):
            if data.count(0) != len(data):
                raise self._damaged(
                    f"zeros at byte {end:,} are followed by other data: it is damaged there, or several archives in one"
                )
            at += len(data)
        if at - end > _MOST_ZEROS:
            raise self._damaged(f"its last {at - end:,} bytes are zeros: it may have been received in part")
        return True

    def _header(self) -> bytes:
        """The header block here, its check sum verified."""
        block = self._block()
        if not _is_header(block):
            raise self._damaged(f"its header at byte {self._at:,} is damaged")
        return block

    def _block(self, least: int = _HEADER) -> bytes:
        """The block here; shorter, down to `least`, where the file ends in it."""
        begin = self._at - self._begin
        if not 0 <= begin <= len(self._window) - _HEADER:
            begin = self._at % self._file.window  # so that windows follow one another, which are fetched ahead then
            self._begin = self._at - begin
            self._window = read_at(self._file, self._file.window, self._begin)
        block = self._window[begin : begin + _HEADER]
        if len(block) < least:
            raise self._damaged("it is cut short: it ends within a header")
        return block

    def _is_header_next(self) -> bool:
        """Whether a header or the end follows, and no data: some writers give a link its file's size."""
        block = self._block(least=0)
        return not any(block) or (len(block) == _HEADER and _is_header(block))

    def _text(self, size: int) -> bytes:
        """The data of a header that is about the next one."""
        if size > _MOST_TEXT:
            raise self._damaged(f"an extended header at byte {self._at:,} has {size:,} bytes, over {_MOST_TEXT:,}")
        text = read_at(self._file, size, self._at + _HEADER)
        if len(text) != size:
            raise self._damaged("it is cut short: it ends within a header")
        self._at += _HEADER + -(-size // _HEADER) * _HEADER
        return text

    def _long_name(self, size: int) -> bytes:
        """GNU's, which a NUL ends. One within it, or no name at all, is a hole in the archive."""
        name = self._text(size).rstrip(b"\0")
        if not name or b"\0" in name:
            raise self._damaged(f"the long name before byte {self._at:,} is damaged")
        return name

    def _records(self, text: bytes) -> dict[bytes, bytes]:
        """An extended header's: `length key=value\\n`, the length being that of all of it."""
        records = {}
        text = text.rstrip(b"\0")
        at = 0
        while at < len(text):
            length = re.match(rb"(\d{1,9}) ", text[at : at + 10])
            stop = at + int(length[1]) if length else 0
            key, equals, value = text[at + length.end() : stop - 1].partition(b"=") if length else (b"", b"", b"")
            if not equals or not key or stop > len(text) or text[stop - 1 : stop] != b"\n":
                raise self._damaged(f"an extended header before byte {self._at:,} is damaged")
            records[key] = value
            at = stop
        return records

    def _number(self, field: bytes, what: str) -> int:
        """A header's number: octal digits, or base 256 with the first bit set."""
        if field[0] & 0x80:
            number = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
            if number < 1 << 62:  # a negative one has its first bits set
                return number
        else:
            digits = field.replace(b"\0", b" ").strip()
            if re.fullmatch(rb"[0-7]*", digits):
                return int(digits or b"0", 8)
        raise self._damaged(f"the header at byte {self._at:,} has no valid {what}")

    def _decimal(self, digits: bytes) -> int:
        if not re.fullmatch(rb"\d{1,18}", digits):
            raise self._damaged(f"an extended header before byte {self._at:,} has no valid size")
        return int(digits)

    def _damaged(self, why: str) -> SourceError:
        after = f" (after {shown(self._last.replace(bytes(1), b' '))})" if self._last else ""
        return SourceError(f"{self._path} cannot be read as a tar archive: {why}{after}")


def _is_header(block: bytes) -> bool:
    """Whether the check sum, over bytes that are signed or not, is right."""
    digits = block[148:156].replace(b"\0", b" ").strip()
    if not re.fullmatch(rb"[0-7]+", digits):
        return False
    rest = block[:148] + b" " * 8 + block[156:]
    stored, unsigned = int(digits, 8), sum(rest)
    return stored == unsigned or stored == unsigned - 256 * sum(byte > 127 for byte in rest)


def _name(header: bytes) -> bytes:
    name = _text(header[:100])
    if header[257:263] == b"ustar\0":
        prefix = _text(header[345:476] if header[508:512] == b"tar\0" else header[345:500])
        return prefix + b"/" + name if prefix else name
    return name


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]
