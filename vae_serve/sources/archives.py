"""Pictures in archives, read where they lie: nothing is unpacked under its own name.

Members are read by offset, so that every process reads its own. A compressed tar has no offsets; its pictures go, one
after another, into an unnamed temporary file first.
"""

import hashlib
import lzma
import os
import struct
import tarfile
import tempfile
import weakref
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from vae_serve.errors import ImageError, SourceError
from vae_serve.sources.files import FILE_LIMIT, Stamp
from vae_serve.sources.listing import is_picture
from vae_serve.sources.names import Labels, Names, PackedNames, first_folders

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, ..., lengths of name and extra field (APPNOTE.TXT 4.3.7)
_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_ENCRYPTED = 1  # bit 0 of a member's flags


class Member(NamedTuple):
    """A picture's place in an archive."""

    name: bytes
    offset: int
    packed: int  # bytes in the archive
    size: int  # bytes of the file
    method: int
    crc: int
    flags: int


class Archive:
    """Pictures that lie in one opened file, in sorted order of their names."""

    def __init__(self, kind: str, file: int, members: list[Member], read: Callable[[int, Member], bytes]) -> None:
        """Takes the file descriptor over."""
        members.sort()
        self.kind = kind
        self.names: Names = PackedNames(member.name for member in members)
        self.skipped: Counter[str] = Counter()
        self._places = np.array([member[1:] for member in members], np.int64)
        self._file, self._read = file, read
        weakref.finalize(self, os.close, file)

    def labels(self, rows: range) -> Labels:
        """The first folder's name within the archive."""
        return first_folders(self.names[rows])

    def read(self, rows: range) -> Iterator[bytes | ImageError]:
        """Each member's bytes, or why there are none: `unsafe_name`, `encrypted`, `unsupported`, `too_large`,
        `truncated`, `checksum`, `damaged`.
        """
        for name, place in zip(self.names[rows], self._places[rows.start : rows.stop].tolist(), strict=True):
            member = Member(name, *place)
            try:
                if name.startswith(b"/") or b".." in name.split(b"/"):
                    raise ImageError("unsafe_name", "its name leads out of the archive")
                if member.size > FILE_LIMIT:
                    raise ImageError("too_large", f"it declares {member.size:,} bytes; the limit is {FILE_LIMIT:,}")
                yield self._read(self._file, member)
            except ImageError as error:
                yield error
            except OSError as error:
                yield ImageError("unreadable", f"it cannot be read: {error.strerror}")

    def stamps(self, rows: range) -> Iterator[Stamp] | None:
        """None: the fingerprint covers sizes, checksums and places."""
        return None

    def fingerprint(self) -> str:
        """Of all names, sizes, checksums and places."""
        return hashlib.sha256(self.names.fingerprint().encode() + self._places.tobytes()).hexdigest()


def open_zip(path: Path) -> Archive:
    """The pictures of a .zip.

    Raises:
        SourceError: it is damaged, or holds no pictures.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise SourceError(f"{path} cannot be read as a zip archive: {error}") from error
    members, skipped = [], Counter[str]()
    for entry in entries:
        name = entry.filename.encode("utf-8", "surrogateescape")
        if not entry.is_dir() and _wanted(name, skipped):
            members.append(
                Member(
                    name=name,
                    offset=entry.header_offset,
                    packed=entry.compress_size,
                    size=entry.file_size,
                    method=entry.compress_type,
                    crc=entry.CRC,
                    flags=entry.flag_bits,
                )
            )
        _refuse_empty(path, members, skipped)
    found = Archive("zip", os.open(path, os.O_RDONLY | os.O_CLOEXEC), members, _read_zipped)
    found.skipped = skipped
    return found


def _read_zipped(file: int, member: Member) -> bytes:
    if member.flags & _ENCRYPTED:
        raise ImageError("encrypted", "it is encrypted; unpack the archive first")
    if member.method not in {_STORED, _DEFLATED}:
        raise ImageError("unsupported", f"it is packed by method {member.method}; stored and deflated can be read")
    header = os.pread(file, _LOCAL_HEADER.size, member.offset)
    if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\3\4"):
        raise ImageError("damaged", "the archive has no member where its directory says so")
    _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    start = member.offset + _LOCAL_HEADER.size + name_length + extra_length
    data = os.pread(file, min(member.packed, FILE_LIMIT), start)
    if member.method == _DEFLATED:
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size + 1)  # a bomb gets no further
        except zlib.error as error:
            raise ImageError("damaged", f"it cannot be unpacked: {error}") from error
    if len(data) != member.size:
        raise ImageError("damaged", f"it unpacks to other than the {member.size:,} bytes that the archive declares")
    if zlib.crc32(data) != member.crc:
        raise ImageError("checksum", "its checksum in the archive is wrong: it is damaged")
    return data


def open_tar(path: Path) -> Archive:
    """The pictures of a .tar, plain or compressed in any way that Python knows.

    Raises:
        SourceError: it is damaged, or holds no pictures; or there is no room for the temporary file.
    """
    members, skipped = [], Counter[str]()
    plain = _is_plain_tar(path)
    try:
        with path.open("rb") as file, tempfile.TemporaryFile() as room:
            with tarfile.open(fileobj=file, mode="r:" if plain else "r|*") as archive:
                for entry in archive:
                    name = os.fsencode(entry.name).removeprefix(b"./")  # as `tar c .` writes them
                    if entry.isdir() or not _wanted(name, skipped):
                        continue
                    if not entry.isreg() or entry.issparse():
                        skipped["no regular file"] += 1
                        continue
                    offset = entry.offset_data if plain else _copy(archive, entry, room)
                    stamp = int(entry.mtime)
                    members.append(Member(name, offset, entry.size, entry.size, _STORED, crc=0, flags=stamp))
            _refuse_empty(path, members, skipped)
            found = Archive("tar", os.dup((file if plain else room).fileno()), members, _read_stored)
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise SourceError(f"{path} cannot be read as a tar archive: {error}") from error
    except OSError as error:
        raise SourceError(f"{path} cannot be read, or unpacked to {tempfile.gettempdir()}: {error}") from error
    found.skipped = skipped
    return found


def _is_plain_tar(path: Path) -> bool:
    try:
        with tarfile.open(path, "r:"):
            return True
    except tarfile.TarError:
        return False


def _copy(archive: tarfile.TarFile, entry: tarfile.TarInfo, to: IO[bytes]) -> int:
    """Appends a member to a file; where it begins there. One that is too large stays out: it is never read."""
    start = to.tell()
    packed = archive.extractfile(entry)
    if packed is not None and entry.size <= FILE_LIMIT:
        to.write(packed.read())
        to.flush()
    return start


def _read_stored(file: int, member: Member) -> bytes:
    data = os.pread(file, member.size, member.offset)
    if len(data) != member.size:
        raise ImageError("truncated", f"the archive ends after {len(data):,} of its {member.size:,} bytes")
    return data


def _wanted(name: bytes, skipped: Counter[str]) -> bool:
    folders_and_file = name.split(b"/")
    if folders_and_file[0] == b"__MACOSX" or any(part.startswith(b".") and part != b".." for part in folders_and_file):
        skipped["hidden"] += 1
    elif is_picture(name):
        return True
    else:
        skipped["no picture's extension"] += 1
    return False


def _refuse_empty(path: Path, members: list[Member], skipped: Counter[str]) -> None:
    if not members:
        raise SourceError(f"{path} holds no pictures ({skipped.total():,} other files)")
